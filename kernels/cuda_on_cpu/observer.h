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

// ---- Hopper's asynchronous instructions, of the current thread. Meetings: vector_clocks.h ---------------------------
void observe_mbarrier_init(size_t mbarrier, const void* word, const void* pc);
/// It arrives, and goes on or waits. `word`: of the mbarrier, nullptr for a named barrier.
void observe_arrival(size_t meeting, const void* word, const void* pc);
void observe_wait(size_t mbarrier, const void* word, const void* pc);
/// All have arrived, and the copies too; then each thread that has waited goes on.
void observe_completion(size_t meeting);
void observe_departure(size_t meeting, const Thread& thread);
void observe_proxy_fence();
/// A copy by TMA begins, at the time that is returned, reads the bytes from device memory, and ends.
uint32_t observe_copy_begin(size_t mbarrier, void* to, size_t bytes, const void* pc);
void observe_copy_source(size_t mbarrier, const void* from, size_t bytes, const void* pc);
void observe_copy_end(size_t mbarrier, uint32_t begun);
/// wgmma of a warp begins, reads 16 bytes of an operand; and its warp has waited for the `count` oldest that had not ended.
void observe_product_begin(unsigned warp);
void observe_operand(unsigned warp, const void* from, const void* pc);
void observe_product_ends(unsigned warp, uint64_t count);
/// Whether operands need to be told.
bool observes_operands();
/// Something else than a kernel of ours runs.
void observe_library_kernel(const LibraryKernel& kernel);

}  // namespace libtrain::kernels::executor
