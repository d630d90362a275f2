/// Barriers in shared memory (mbarrier) and named barriers, as functions of the thread that calls them. Source: PTX ISA, "Parallel
/// Synchronization and Communication Instructions: mbarrier", and "barrier".
#pragma once
#include <cstdint>

#include "kernels/cuda_on_cpu/thread_state.h"

namespace libtrain::kernels::executor {

void mbarrier_init(uint64_t* barrier, unsigned arrivals, Site site);
void mbarrier_fence_init();
/// `bytes` are announced before the arrival.
void mbarrier_arrive(uint64_t* barrier, unsigned bytes, Site site);
void mbarrier_wait(uint64_t* barrier, unsigned parity, Site site);

/// Arrives at barrier `id` of `threads` threads, and waits for the others or goes on.
void named_barrier(int id, int threads, bool waits, Site site);

void fence_proxy_async();
void setmaxnreg(unsigned registers, Site site);

}  // namespace libtrain::kernels::executor
