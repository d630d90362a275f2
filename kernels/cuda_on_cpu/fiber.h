/// Stacks that the scheduler switches between, one for each thread of a block, kept for the next block.
#pragma once
#include <cstddef>

namespace libtrain::kernels::executor {

/// Readies stack number `index` to run `entry`, which must not return; gives the stack pointer to switch to.
void* prepare_fiber(size_t index, void (*entry)());
bool is_on_fiber(size_t index, const void* address);
/// Leaves the running stack, whose pointer is saved, for another.
void switch_fiber(void** save, void* load);

}  // namespace libtrain::kernels::executor
