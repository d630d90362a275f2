#include "kernels/cuda_on_cpu/observer.h"

#include "kernels/cuda_on_cpu/memory_access.h"

namespace libtrain::kernels::executor {

void observe(const void*, size_t, Access, const void*) {}
void observe_launch(const Launch&) {}
void observe_block(const Block&) {}
void observe_barrier() {}
void observe_warp_sync(const Warp&, unsigned) {}
void observe_copy(const AsyncCopy&, bool) {}
void observe_launch_end() {}
void fence() {}

}  // namespace libtrain::kernels::executor
