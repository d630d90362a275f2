/// The side of traffic.h that launches report to.
#pragma once
#include "kernels/cuda_on_cpu/observer.h"

namespace libtrain::kernels::executor::counter {

void begin_launch(const Launch& launch);
void begin_block(const Block& block);
void meet_in_block();
/// All lanes of a warp have met: accesses from here on are other requests.
void meet_in_warp(const Warp& warp);
void access(const void* address, size_t bytes, Access access, const void* pc);
void end_launch();
void library_launch(const LibraryKernel& kernel);

}  // namespace libtrain::kernels::executor::counter
