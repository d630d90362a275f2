/// Finds races and wrong addresses in the accesses of instrumented kernels. A conflict (two accesses to a byte, one of them a write, not
/// both atomic) is a race unless something orders the two: one thread's program, a barrier, __syncwarp, the order of launches in a
/// stream, mbarriers and named barriers, or between blocks a release and an acquire (happens_before.h). Shuffles, votes and matrix
/// instructions order nothing. TMA and wgmma access memory as agents of their own (asynchronous_checker.cpp).
#pragma once
#include "kernels/cuda_on_cpu/happens_before.h"
#include "kernels/cuda_on_cpu/observer.h"

namespace libtrain::kernels::executor::checker {

void begin_launch(const Launch& launch, const Block& block);
void begin_block(const Block& block);
void meet_in_block();
void meet_in_warp(const Warp& warp, unsigned mask);
void fence();
void access(const void* address, size_t bytes, Access access, const void* pc);
void copy(const AsyncCopy& copy, bool pending);

HappensBefore& clock();
/// An access of the current thread, or of a unit that it has set to work. False for one that is none of the checker's business.
bool access_by(Agent agent, const void* address, size_t bytes, Access access, const void* pc);

// ---- Of the current thread; numbers of meetings and agents as in vector_clocks.h
void begin_mbarrier(size_t mbarrier, const void* word, const void* pc);
/// `word`: of the mbarrier; nullptr for a named barrier.
void release(size_t meeting, const void* word, const void* pc);
void wait_at(size_t mbarrier, const void* word, const void* pc);
uint32_t begin_copy(size_t mbarrier, void* to, size_t bytes, const void* pc);
void read_for_copy(size_t mbarrier, const void* from, size_t bytes, const void* pc);

}  // namespace libtrain::kernels::executor::checker
