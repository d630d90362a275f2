/// What orders the accesses of a launch. Time is a counter that grows at every event that orders something; an access is stamped with the
/// time and its thread, and that stamp is all that needs to be kept of it.
///
/// Between blocks only this pattern orders ("last block done"), as in the PTX memory model: a thread runs __threadfence() and then an
/// atomic on some address (release); later a thread of another block runs an atomic on the same address and then __threadfence()
/// (acquire); ptx::atomic_inc_acq_rel is all of them. What the first thread did before its fence, and what other threads of its block did
/// before the barrier that its fence follows, happens before what the second does after its fence, its warp after the next __syncwarp, and its block after the next
/// barrier.
///
/// A block that uses mbarriers, named barriers, TMA or wgmma keeps vector clocks from the first such instruction on.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "kernels/cuda_on_cpu/vector_clocks.h"

namespace libtrain::kernels::executor {

class HappensBefore {
 public:
  void begin_launch();
  void begin_block(unsigned threads);
  void barrier();
  void sync_warp(unsigned warp, unsigned full_mask, unsigned mask);
  void fence(unsigned thread);
  /// An atomic operation: releases, if a fence came before, and gets hold of what was released on the address.
  void atomic(const void* address, unsigned thread);

  uint32_t now() const { return now_; }
  bool in_this_launch(uint32_t time) const { return time >= launch_; }
  bool in_this_block(uint32_t time) const { return time >= block_; }
  bool since_barrier(uint32_t time) const { return time >= barrier_; }
  /// Whether what thread `earlier` of this block, or of another block of this launch, did at that time is ordered before what thread
  /// `now` of this block does next. Thread numbers are within their blocks.
  bool ordered(uint32_t time, Agent earlier, Agent now) const {
    if (!in_this_block(time)) return ordered_by_release(time, earlier, now);
    if (clocks_.active()) return (earlier == now && is_thread(now)) || clocks_.knows(now, earlier, time);
    return earlier == now || !since_barrier(time) ||
           (earlier / 32 == now / 32 && warp_synced_since(time, earlier, now));
  }
  /// Whether all threads of a warp, or of the block, are ordered so.
  bool all_ordered(uint32_t time, unsigned first, unsigned count, Agent now) const;
  /// Whether what a thread wrote is behind a proxy fence for an asynchronous unit.
  bool ordered_by_proxy(uint32_t time, Agent earlier, Agent now) const {
    return clocks_.knows_by_proxy(now, earlier, time);
  }
  bool keeps_clocks() const { return clocks_.active(); }

  // ---- Of the current block, by number of the mbarrier and the like
  /// From now on it keeps vector clocks.
  void want_clocks();
  void release(size_t meeting, Agent thread);
  void complete(size_t meeting);
  void acquire(size_t meeting, Agent thread);
  void proxy_fence(Agent thread);
  /// All that TMA has under way to the mbarrier, a thread has started at the returned time.
  uint32_t start_copy(size_t mbarrier, Agent thread);
  void end_copy(size_t mbarrier, uint32_t started);
  /// wgmma of a warp starts another product, or ends the `count` oldest, of which its threads learn.
  void start_product(unsigned warp);
  void end_products(unsigned warp, uint64_t count);

  /// Whether this thread's own atomic on the address, or one before the barrier, has seen all atomics on it so far.
  bool has_seen_atomics(const void* address, unsigned thread) const;
  /// Whether anything that other blocks have released is ordered before what this thread does next.
  bool has_acquired(unsigned thread) const;
  /// Whether lanes of one warp have met in __syncwarp since.
  bool warp_synced_since(uint32_t time, unsigned earlier, unsigned now) const {
    const WarpClock& clock = warps_[now / 32];
    return time < (clock.known.empty() ? clock.all : clock.known[now % 32][earlier % 32]);
  }

 private:
  /// What an atomic of an earlier block makes visible.
  struct Release {
    uint32_t begin, end;            // of its block, up to the atomic
    std::vector<uint32_t> covered;  // what each thread did before this time
  };
  using Releases = std::vector<std::shared_ptr<const Release>>;
  struct Acquire {
    const void* address;
    unsigned thread;
    uint32_t seen;      // the time of the atomic
    uint32_t acquired;  // the time of the fence behind it; 0 before that
    Releases releases;  // by time
  };
  /// Times of the last __syncwarp: of all lanes, or, after the first one with a mask, of each pair of lanes.
  struct WarpClock {
    uint32_t all = 0;
    std::vector<std::array<uint32_t, 32>> known;  // known[a][b]: what b did before this happens before what a does next
  };
  /// The last __threadfence of a thread.
  struct Fence {
    uint32_t time = 0, barrier = 0, warp = 0;  // and the last barrier and full __syncwarp before it
    std::vector<uint32_t> known;               // and what the thread knew of others by its vector clock, if it had one
  };

  bool ordered_by_release(uint32_t time, unsigned earlier, unsigned now) const;
  bool reaches(const Acquire& acquire, unsigned thread) const;
  void set_all(WarpClock& clock, uint32_t time);
  std::shared_ptr<const Release> release_by(unsigned thread) const;
  bool released(const Acquire& acquire, uint32_t time, unsigned thread) const;

  uint32_t now_ = 1, launch_ = 1, block_ = 1, barrier_ = 1;
  bool fenced_ = false, any_fence_ = false;  // in this block, in this launch
  std::vector<WarpClock> warps_;
  std::vector<Fence> fences_;
  std::map<const void*, Releases> releases_;                 // of this launch
  std::vector<Acquire> acquires_;                            // of this block
  VectorClocks clocks_;                                      // of this block
  std::array<std::vector<uint32_t>, kMaxMbarriers> copies_;  // by mbarrier: when those under way were started
  std::array<std::vector<uint32_t>, kMaxWarps> products_;    // likewise by warp
};

}  // namespace libtrain::kernels::executor
