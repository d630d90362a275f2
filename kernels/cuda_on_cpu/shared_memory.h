/// The shared memory of the block that is being executed. Static __shared__ variables are thread_local here, and kernel libraries have
/// no other thread-local variables, so the static part is the thread-local segment of the kernel's library.
#pragma once
#include <cstddef>

namespace libtrain::kernels::executor {

struct SharedMemory {
  unsigned char* dynamic_begin = nullptr;
  size_t dynamic_bytes = 0;
  unsigned char* static_begin = nullptr;
  size_t static_bytes = 0;

  bool contains(const void* begin, size_t bytes) const;
};

/// Of the launch that is being executed.
const SharedMemory& shared_memory();
/// Sets it up for a launch of `kernel`.
void prepare_shared_memory(const void* kernel, size_t dynamic_bytes);
/// Fills it with NaN, as it is before a block begins.
void poison_shared_memory();
/// Whether the address is near the dynamic part, so that it must have been meant.
bool near_dynamic_shared(const void* address);

}  // namespace libtrain::kernels::executor
