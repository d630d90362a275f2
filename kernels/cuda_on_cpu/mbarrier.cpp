#include "kernels/cuda_on_cpu/mbarrier.h"

#include <algorithm>

#include "kernels/cuda_on_cpu/asynchronous.h"
#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/rendezvous.h"
#include "kernels/cuda_on_cpu/shared_memory.h"
#include "kernels/cuda_on_cpu/vector_clocks.h"

namespace libtrain::kernels::executor {
namespace {

constexpr uint64_t kMark = 0x7265697272616200u;
constexpr unsigned kMaxArrivals = (1u << 20) - 1;
constexpr int64_t kMaxBytes = (1 << 20) - 1;
constexpr unsigned kRegisterFile = 65536;  // of a multiprocessor

template <class... Parts> [[noreturn]] void complain(const char* call, Site site, const Parts&... parts) {
  fault(text(call, " at ", text_of(site), ": ", parts...));
}

void check_address(const uint64_t* barrier, const char* call, Site site) {
  if (!shared_memory().contains(barrier, 8)) complain(call, site, "the address ", barrier, " is not in shared memory");
  if (reinterpret_cast<uintptr_t>(barrier) % 8)
    complain(call, site, "the address ", barrier, " is not a multiple of 8");
}

/// Readies the threads that wait for this, where all have met.
void wake(Block& block, const void* waits_for, size_t meeting) {
  observe_completion(meeting);
  for (unsigned i = 0; i < block.count; ++i) {
    Thread& thread = block.threads[i];
    if (thread.waits_for != waits_for) continue;
    thread.waits_for = nullptr;
    if (thread.state == State::at_named_barrier) observe_departure(meeting, thread);
    thread.state = State::ready;
  }
}

void wait_for(const void* what, State state, Site site) {
  current->waits_for = what;
  wait_as(state, site);
}

void complete_phase(Block& block, size_t number) {
  Mbarrier& barrier = block.asynchronous->mbarriers[number];
  if (barrier.pending || barrier.bytes) return;
  ++barrier.phases;
  barrier.pending = barrier.expected;
  wake(block, barrier.address, number);
}

}  // namespace

// ---- mbarrier --------------------------------------------------------------------------------------------------------
size_t find_mbarrier(const uint64_t* barrier, const char* call, Site site) {
  check_address(barrier, call, site);
  const auto& all = current->block->asynchronous->mbarriers;
  const auto found = std::find_if(all.begin(), all.end(), [&](const Mbarrier& b) { return b.address == barrier; });
  if (found == all.end()) complain(call, site, "the mbarrier has not been initialized");
  const auto number = size_t(found - all.begin());
  if (*barrier != kMark + number)
    complain(call, site, "the mbarrier that was initialized at ", text_of(found->site), " has been written over");
  return number;
}

void mbarrier_init(uint64_t* barrier, unsigned arrivals, Site site) {
  check_address(barrier, "mbarrier_init", site);
  if (arrivals < 1 || arrivals > kMaxArrivals) complain("mbarrier_init", site, arrivals, " arrivals");
  auto& all = current->block->asynchronous->mbarriers;
  auto found = std::find_if(all.begin(), all.end(), [&](const Mbarrier& b) { return b.address == barrier; });
  if (found == all.end()) found = all.insert(all.end(), Mbarrier{});
  if (all.size() > kMaxMbarriers) complain("mbarrier_init", site, "more than ", kMaxMbarriers, " mbarriers");
  if (found->pending != found->expected || found->bytes)
    complain("mbarrier_init", site, "the mbarrier is in use since ", text_of(found->site));
  *found = {barrier, arrivals, arrivals, 0, 0, site};
  const auto number = size_t(found - all.begin());
  observe_mbarrier_init(number, barrier, __builtin_return_address(0));
  *barrier = kMark + number;
}

void mbarrier_fence_init() { observe_proxy_fence(); }

void mbarrier_arrive(uint64_t* address, unsigned bytes, Site site) {
  Block& block = *current->block;
  const size_t number = find_mbarrier(address, "mbarrier_arrive", site);
  Mbarrier& barrier = block.asynchronous->mbarriers[number];
  if (barrier.pending == 0)
    complain("mbarrier_arrive", site, "more arrivals than the ", barrier.expected, " of a phase, initialized at ",
             text_of(barrier.site));
  barrier.bytes += bytes;
  if (barrier.bytes > kMaxBytes) complain("mbarrier_arrive", site, barrier.bytes, " bytes announced in one phase");
  --barrier.pending;
  observe_arrival(number, address, __builtin_return_address(0));
  complete_phase(block, number);
}

void mbarrier_wait(uint64_t* address, unsigned parity, Site site) {
  if (parity > 1) complain("mbarrier_wait", site, "parity ", parity);
  const size_t number = find_mbarrier(address, "mbarrier_wait", site);
  const auto& all = current->block->asynchronous->mbarriers;
  observe_wait(number, address, __builtin_return_address(0));
  while (all[number].phases % 2 == parity) wait_for(address, State::at_mbarrier, site);
  observe_departure(number, *current);
}

void deliver_bytes(Block& block, size_t mbarrier, int64_t bytes) {
  block.asynchronous->mbarriers[mbarrier].bytes -= bytes;
  complete_phase(block, mbarrier);
}

// ---- Named barriers --------------------------------------------------------------------------------------------------
void named_barrier(int id, int threads, bool waits, Site site) {
  Block& block = *current->block;
  const char* const call = waits ? "named_barrier_sync" : "named_barrier_arrive";
  if (id < 1 || id >= int(kNamedBarriers)) complain(call, site, "barrier ", id, ", which is not one of 1 to 15");
  if (threads < 32 || threads % 32 || threads > int(block.count))
    complain(call, site, threads, " threads, which is no number of whole warps of this block");
  NamedBarrier& barrier = block.asynchronous->named[size_t(id)];
  if (barrier.threads && barrier.threads != unsigned(threads))
    complain(call, site, "barrier ", id, " of ", threads, " threads, but at ", text_of(barrier.site), " it is one of ",
             barrier.threads);
  if (!barrier.threads) barrier.site = site;
  barrier.threads = unsigned(threads);
  auto& arrived = barrier.arrived;
  if (std::find(arrived.begin(), arrived.end(), current->linear) != arrived.end())
    complain(call, site, "this thread arrives at barrier ", id, " a second time before the others have come");
  arrived.push_back(current->linear);
  observe_arrival(meeting_at_named(id), nullptr, nullptr);
  if (arrived.size() == barrier.threads) {
    barrier.threads = 0;
    arrived.clear();
    wake(block, &barrier, meeting_at_named(id));
    if (waits) observe_departure(meeting_at_named(id), *current);
  } else if (waits) {
    wait_for(&barrier, State::at_named_barrier, site);
  }
}

// ---- Whereabouts -----------------------------------------------------------------------------------------------------
std::string describe_wait(const Thread& thread) {
  const Asynchronous& all = *thread.block->asynchronous;
  for (const Mbarrier& b : all.mbarriers)
    if (b.address == thread.waits_for)
      return text("wait for phase ", b.phases, " of the mbarrier that was initialized at ", text_of(b.site),
                  ", which lacks ", b.pending, " of ", b.expected, " arrivals and ", b.bytes, " bytes,");
  for (size_t id = 1; id < kNamedBarriers; ++id)
    if (const NamedBarrier& b = all.named[id]; &b == thread.waits_for)
      return text("wait at named barrier ", id, ", which ", b.arrived.size(), " of ", b.threads,
                  " threads have reached,");
  return "";
}

void fence_proxy_async() { observe_proxy_fence(); }

void setmaxnreg(unsigned registers, Site site) {
  meet(WarpCall::setmaxnreg, kFullWarp, nullptr, nullptr, site);
  auto& of_warps = current->block->asynchronous->registers;
  of_warps[current->warp->id] = registers;
  unsigned total = 0;
  for (const unsigned of_warp : of_warps) total += of_warp * 32;
  if (total > kRegisterFile)
    complain("setmaxnreg", site, "the warps of the block ask for ", total, " registers together, of ", kRegisterFile);
}

}  // namespace libtrain::kernels::executor
