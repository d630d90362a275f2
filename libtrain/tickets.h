/// Tickets (kernels/view.h) that belong to no stream. Part of cuda.cpp and allocator.cpp, not of what programs use.
#pragma once

namespace libtrain::detail {

/// The device has set them to 0. Throws OutOfMemory, DeviceError.
unsigned* new_tickets();
/// What kernels that this thread enqueues take their tickets from; nullptr: those of its stream.
unsigned*& active_tickets();

}  // namespace libtrain::detail
