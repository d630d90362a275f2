/// Finds races and wrong addresses in the accesses of instrumented kernels. A conflict (two accesses to a byte, one of them a write, not
/// both atomic) is a race unless something orders the two: one thread's program, a barrier, __syncwarp, the order of launches in a
/// stream, or between blocks a release and an acquire (happens_before.h). Shuffles, votes and matrix instructions order nothing.
#pragma once
#include "kernels/cuda_on_cpu/observer.h"

namespace libtrain::kernels::executor::checker {

void begin_launch(const Launch& launch, const Block& block);
void begin_block(const Block& block);
void meet_in_block();
void meet_in_warp(const Warp& warp, unsigned mask);
void fence();
void access(const void* address, size_t bytes, Access access, const void* pc);
void copy(const AsyncCopy& copy, bool pending);

}  // namespace libtrain::kernels::executor::checker
