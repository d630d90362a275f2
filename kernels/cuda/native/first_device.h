/// The one GPU that libtrain uses.
#pragma once

namespace libtrain::kernels::runtime {

/// Memory, streams, events and cuBLASLt's handle are made on the GPU that a program's own cudaSetDevice() has chosen for the thread, and kernels get
/// their attributes there: all of libtrain's must be the first. Throws Failure where it is another.
void require_first_device();

}  // namespace libtrain::kernels::runtime
