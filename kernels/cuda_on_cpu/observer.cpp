#include "kernels/cuda_on_cpu/observer.h"

#include "kernels/cuda_on_cpu/checker.h"
#include "kernels/cuda_on_cpu/memory_access.h"
#include "kernels/cuda_on_cpu/settings.h"
#include "kernels/cuda_on_cpu/traffic_counter.h"

namespace libtrain::kernels::executor {
namespace {
/// Of the launch that runs: kernels that are not instrumented would be seen in part only, and misjudged.
Observer active = Observer::none;
}  // namespace

void observe(const void* address, size_t bytes, Access access, const void* pc) {
  if (!current) return;
  if (active == Observer::race) checker::access(address, bytes, access, pc);
  if (active == Observer::traffic) counter::access(address, bytes, access, pc);
}

void observe_launch(const Launch& launch, const Block& block) {
  active = is_instrumented(launch.kernel) ? observer() : Observer::none;
  if (active == Observer::race) checker::begin_launch(launch, block);
  if (active == Observer::traffic) counter::begin_launch(launch);
}

void observe_block(const Block& block) {
  if (active == Observer::race) checker::begin_block(block);
  if (active == Observer::traffic) counter::begin_block(block);
}

void observe_barrier() {
  if (active == Observer::race) checker::meet_in_block();
  if (active == Observer::traffic) counter::meet_in_block();
}

void observe_warp_call(const Warp& warp, unsigned mask, bool orders_memory) {
  if (active == Observer::race && orders_memory) checker::meet_in_warp(warp, mask);
  if (active == Observer::traffic && mask == 0xFFFFFFFFu) counter::meet_in_warp(warp);
}

void observe_copy(const AsyncCopy& copy, bool pending) {
  if (active == Observer::race) checker::copy(copy, pending);
}

void observe_mbarrier_init(size_t mbarrier, const void* word, const void* pc) {
  if (active == Observer::race) checker::begin_mbarrier(mbarrier, word, pc);
}

void observe_arrival(size_t meeting, const void* word, const void* pc) {
  if (active == Observer::race) checker::release(meeting, word, pc);
}

void observe_wait(size_t mbarrier, const void* word, const void* pc) {
  if (active == Observer::race) checker::wait_at(mbarrier, word, pc);
}

void observe_completion(size_t meeting) {
  if (active == Observer::race) checker::clock().complete(meeting);
}

void observe_departure(size_t meeting, const Thread& thread) {
  if (active == Observer::race) checker::clock().acquire(meeting, Agent(thread.linear));
}

void observe_proxy_fence() {
  if (active == Observer::race) checker::clock().proxy_fence(Agent(current->linear));
}

uint32_t observe_copy_begin(size_t mbarrier, void* to, size_t bytes, const void* pc) {
  return active == Observer::race ? checker::begin_copy(mbarrier, to, bytes, pc) : 0;
}

void observe_copy_source(size_t mbarrier, const void* from, size_t bytes, const void* pc) {
  if (active == Observer::race) checker::read_for_copy(mbarrier, from, bytes, pc);
  if (active == Observer::traffic) counter::access(from, bytes, Access::read, pc);
}

void observe_copy_end(size_t mbarrier, uint32_t begun) {
  if (active == Observer::race) checker::clock().end_copy(mbarrier, begun);
}

void observe_product_begin(unsigned warp) {
  if (active == Observer::race) checker::clock().start_product(warp);
}

void observe_operand(unsigned warp, const void* from, const void* pc) {
  if (active == Observer::race) checker::access_by(wgmma_of_warp(warp), from, 16, Access::read, pc);
}

void observe_product_ends(unsigned warp, uint64_t count) {
  if (active == Observer::race) checker::clock().end_products(warp, count);
}

bool observes_operands() { return active == Observer::race; }

void observe_launch_end() {
  if (active == Observer::traffic) counter::end_launch();
  active = Observer::none;
}

void observe_library_kernel(const LibraryKernel& kernel) {
  if (observer() == Observer::traffic) counter::library_launch(kernel);
}

void fence() {
  if (active == Observer::race) checker::fence();
}

}  // namespace libtrain::kernels::executor
