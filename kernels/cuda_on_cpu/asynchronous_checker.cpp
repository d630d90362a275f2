// What the checker makes of mbarriers, copies by TMA and products by wgmma. A unit's accesses count from its start, with the
// knowledge of the thread that started it, until a thread learns of its end.
#include <array>

#include "kernels/cuda_on_cpu/checker.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/source_line.h"

namespace libtrain::kernels::executor::checker {
namespace {

/// The mbarrier_init that the block has run last.
struct Beginning {
  uint32_t time;
  Agent thread;
  const void* pc;
};
std::array<Beginning, kLastAgent - kFirstTma> beginnings;

Agent own_agent() { return Agent(current->linear); }

/// Arrivals and waits are atomic operations that do not conflict with each other, but all come after the mbarrier_init.
void use(size_t mbarrier, const void* word, const void* pc) {
  access_by(own_agent(), word, 8, Access::atomic, pc);
  const Beginning& begin = beginnings[mbarrier];
  if (clock().ordered(begin.time, begin.thread, own_agent())) return;
  fault(text("race: use of an mbarrier conflicts with its mbarrier_init by thread ",
             text_of(current->block->threads[begin.thread].index), "\n    at ", source_line(pc), "\n    the other at ",
             source_line(begin.pc)));
}

}  // namespace

void begin_mbarrier(size_t mbarrier, const void* word, const void* pc) {
  clock().want_clocks();
  access_by(own_agent(), word, 8, Access::write, pc);
  beginnings[mbarrier] = {clock().now(), own_agent(), pc};
}

void release(size_t meeting, const void* word, const void* pc) {
  if (word) use(meeting, word, pc);
  clock().release(meeting, own_agent());
}

void wait_at(size_t mbarrier, const void* word, const void* pc) { use(mbarrier, word, pc); }

uint32_t begin_copy(size_t mbarrier, void* to, size_t bytes, const void* pc) {
  const uint32_t started = clock().start_copy(mbarrier, own_agent());
  const Beginning& of_mbarrier = beginnings[mbarrier];
  if (!clock().ordered_by_proxy(of_mbarrier.time, of_mbarrier.thread, tma_to(mbarrier)))
    fault("tma_load: no mbarrier_fence_init behind the mbarrier_init of its mbarrier");
  access_by(tma_to(mbarrier), to, bytes, Access::write, pc);
  return started;
}

void read_for_copy(size_t mbarrier, const void* from, size_t bytes, const void* pc) {
  access_by(tma_to(mbarrier), from, bytes, Access::read, pc);
}

}  // namespace libtrain::kernels::executor::checker
