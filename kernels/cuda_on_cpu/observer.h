/// What is told of a launch while it runs, so that it can be checked (checker.cpp) or counted (traffic.cpp).
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/thread_state.h"

namespace libtrain::kernels::executor {

enum class Access : uint8_t { read, write, atomic };

/// The current thread is about to access memory, at the instruction before `pc`.
void observe(const void* address, size_t bytes, Access access, const void* pc);

void observe_launch(const Launch& launch, const Block& block);
void observe_block(const Block& block);
/// All threads of the block have met.
void observe_barrier();
/// The lanes of the mask have met in a warp-wide call; those of __syncwarp also order memory.
void observe_warp_call(const Warp& warp, unsigned mask, bool orders_memory);
/// The current thread has a cp.async under way to these bytes of shared memory, or has just waited for it.
void observe_copy(const AsyncCopy& copy, bool pending);
void observe_launch_end();
/// Something else than a kernel of ours runs.
void observe_library_kernel(const LibraryKernel& kernel);

}  // namespace libtrain::kernels::executor
