/// Tickets (kernels/view.h) that belong to no stream. Part of cuda.cpp and allocator.cpp, not of what programs use.
#pragma once

namespace libtrain::detail {

/// For a stream and a second one beside it, kTickets each. The device has set them to 0. Throws OutOfMemory, DeviceError.
unsigned* new_tickets();
/// What kernels that this thread enqueues take their tickets from; nullptr: those of its stream.
unsigned*& active_tickets();
/// Whether this thread now enqueues on the second stream (side_stream.h): what runs beside other captured work has tickets and memory of its own.
bool& on_side_stream();

}  // namespace libtrain::detail
