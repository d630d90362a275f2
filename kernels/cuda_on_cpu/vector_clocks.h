/// What each agent of a block knows to be behind it: agents are its threads and the units that work beside them. Kept only for blocks
/// that use mbarriers, named barriers or asynchronous units; barriers of all threads and of warps alone need less (happens_before.h).
///
/// Source: Mattern, "Virtual Time and Global States of Distributed Systems", 1989; FastTrack (Flanagan, Freund, PLDI 2009).
/// A time is one of the clock of the block, not of the agent: what an agent did before time t has smaller stamps.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cuda_on_cpu/thread_state.h"

namespace libtrain::kernels::executor {

/// Numbers of agents: threads come first, then wgmma by warp, then TMA by mbarrier.
using Agent = uint16_t;
constexpr Agent kFirstUnit = kMaxThreads, kFirstTma = kFirstUnit + kMaxWarps, kLastAgent = kFirstTma + kMaxMbarriers;
constexpr bool is_thread(Agent agent) { return agent < kFirstUnit; }
constexpr Agent wgmma_of_warp(unsigned warp) { return Agent(kFirstUnit + warp); }
constexpr Agent tma_to(size_t mbarrier) { return Agent(kFirstTma + mbarrier); }

/// Numbers of what threads meet at: mbarriers, then named barriers.
constexpr size_t kMeetings = kMaxMbarriers + kNamedBarriers;
constexpr size_t meeting_at_named(int id) { return kMaxMbarriers + size_t(id); }

class VectorClocks {
 public:
  void end() { active_ = false; }
  bool active() const { return active_; }
  /// known(a, b): what thread b did before that time is known to thread a.
  template <class F> void begin(unsigned threads, F&& known);

  bool knows(Agent now, Agent earlier, uint32_t time) const { return time < row(now).known[column(earlier)]; }
  /// Whether what `earlier` wrote by ordinary stores is behind a proxy fence, for an asynchronous unit.
  bool knows_by_proxy(Agent now, Agent earlier, uint32_t time) const {
    return time < row(now).proxied[column(earlier)];
  }
  uint32_t known(Agent now, Agent earlier) const { return row(now).known[column(earlier)]; }

  /// All of these threads meet at `time`, and each knows then what any knew.
  void meet(const std::vector<Agent>& threads, uint32_t time);
  void release(size_t meeting, Agent thread, uint32_t time);
  /// Everybody has come: from now on others can acquire what was released.
  void complete(size_t meeting);
  void acquire(size_t meeting, Agent thread) { row(thread).join(released_[meeting]); }
  /// Likewise that the asynchronous unit is done with what it was given before `time`.
  void release_unit(size_t meeting, Agent unit, uint32_t time);
  void learn(Agent thread, Agent unit, uint32_t time);

  void proxy_fence(Agent thread, uint32_t time);
  /// A unit starts with what the thread knows, or with what all of the warp's threads know.
  void start(Agent unit, Agent thread, uint32_t time);
  void start_for_warp(Agent unit, Agent first, uint32_t time);

 private:
  struct Clock {
    std::vector<uint32_t> known, proxied;  // by column
    void join(const Clock& other);
  };

  size_t column(Agent agent) const { return is_thread(agent) ? agent : threads_ + (agent - kFirstUnit); }
  const Clock& row(Agent agent) const { return rows_[column(agent)]; }
  Clock& row(Agent agent) { return rows_[column(agent)]; }
  void clear(unsigned threads);

  bool active_ = false;
  size_t threads_ = 0;
  std::vector<Clock> rows_;
  std::array<Clock, kMeetings> gathered_, released_;
};

template <class F> void VectorClocks::begin(unsigned threads, F&& known) {
  clear(threads);
  for (unsigned a = 0; a < threads; ++a)
    for (unsigned b = 0; b < threads; ++b) rows_[a].known[b] = known(a, b);
}

}  // namespace libtrain::kernels::executor
