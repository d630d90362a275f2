#include "kernels/cuda_on_cpu/happens_before.h"

#include <algorithm>
#include <numeric>

namespace libtrain::kernels::executor {

void HappensBefore::begin_launch() {
  launch_ = ++now_;
  any_fence_ = false;
  releases_.clear();
}

void HappensBefore::begin_block(unsigned threads) {
  block_ = barrier_ = ++now_;
  fenced_ = false;
  warps_.assign((threads + 31) / 32, {});
  fences_.assign(threads, {});
  acquires_.clear();
  clocks_.end();
  for (auto& started : copies_) started.clear();
  for (auto& started : products_) started.clear();
}

void HappensBefore::barrier() {
  barrier_ = ++now_;
  if (!clocks_.active()) return;
  std::vector<Agent> all(fences_.size());
  std::iota(all.begin(), all.end(), Agent(0));
  clocks_.meet(all, now_);
}

void HappensBefore::set_all(WarpClock& clock, uint32_t time) {
  clock.all = time;
  clock.known.clear();
}

void HappensBefore::sync_warp(unsigned warp, unsigned full_mask, unsigned mask) {
  WarpClock& clock = warps_[warp];
  const uint32_t time = ++now_;
  if (clocks_.active()) {
    std::vector<Agent> lanes;
    for (unsigned lane = 0; lane < 32; ++lane)
      if (mask >> lane & 1) lanes.push_back(Agent(warp * 32 + lane));
    clocks_.meet(lanes, time);
  }
  if (mask == full_mask) return set_all(clock, time);
  if (clock.known.empty()) {
    clock.known.resize(32);
    for (auto& row : clock.known) row.fill(clock.all);
  }
  std::array<uint32_t, 32> joined{};
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1)
      for (unsigned other = 0; other < 32; ++other) joined[other] = std::max(joined[other], clock.known[lane][other]);
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) joined[lane] = time;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) clock.known[lane] = joined;
}

void HappensBefore::fence(unsigned thread) {
  fenced_ = any_fence_ = true;
  fences_[thread] = {++now_, barrier_, warps_[thread / 32].all, {}};
  if (clocks_.active())
    for (unsigned other = 0; other < fences_.size(); ++other)
      fences_[thread].known.push_back(clocks_.known(Agent(thread), Agent(other)));
  for (Acquire& acquire : acquires_)
    if (acquire.thread == thread && acquire.acquired == 0) acquire.acquired = now_;
}

std::shared_ptr<const HappensBefore::Release> HappensBefore::release_by(unsigned thread) const {
  auto release = std::make_shared<Release>(Release{block_, now_, {}});
  const Fence& own = fences_[thread];
  for (unsigned other = 0; other < fences_.size(); ++other) {
    uint32_t covered = own.barrier;
    if (other / 32 == thread / 32) covered = std::max(covered, own.warp);
    if (!own.known.empty()) covered = std::max(covered, own.known[other]);
    if (other == thread) covered = own.time;
    if (fences_[other].time < barrier_) covered = std::max(covered, fences_[other].time);
    release->covered.push_back(covered);
  }
  return release;
}

void HappensBefore::atomic(const void* address, unsigned thread) {
  if (!any_fence_) return;
  ++now_;
  Releases& here = releases_[address];
  Acquire acquire{address, thread, now_, 0, {}};
  for (const auto& release : here)
    if (release->begin < block_) acquire.releases.push_back(release);
  acquires_.push_back(std::move(acquire));
  if (fenced_) here.push_back(release_by(thread));
}

bool HappensBefore::released(const Acquire& acquire, uint32_t time, unsigned thread) const {
  const auto begun = [&](const auto& release) { return release->begin <= time; };
  auto next = std::partition_point(acquire.releases.begin(), acquire.releases.end(), begun);
  if (next == acquire.releases.begin()) return false;
  const uint32_t block = (*--next)->begin;  // that the access belongs to, if it released anything
  for (;; --next) {
    const Release& release = **next;
    if (release.begin != block) return false;
    if (time < release.end && thread < release.covered.size() && time < release.covered[thread]) return true;
    if (next == acquire.releases.begin()) return false;
  }
}

bool HappensBefore::ordered_by_release(uint32_t time, unsigned earlier, unsigned now) const {
  return std::any_of(acquires_.begin(), acquires_.end(),
                     [&](const Acquire& acquire) { return reaches(acquire, now) && released(acquire, time, earlier); });
}

bool HappensBefore::reaches(const Acquire& acquire, unsigned thread) const {
  if (!acquire.acquired) return false;
  if (clocks_.active() && clocks_.knows(Agent(thread), Agent(acquire.thread), acquire.acquired)) return true;
  return acquire.thread == thread || acquire.acquired < barrier_ ||
         (acquire.thread / 32 == thread / 32 && warp_synced_since(acquire.acquired, acquire.thread, thread));
}

bool HappensBefore::has_acquired(unsigned thread) const {
  return std::any_of(acquires_.begin(), acquires_.end(),
                     [&](const Acquire& acquire) { return reaches(acquire, thread) && !acquire.releases.empty(); });
}

bool HappensBefore::has_seen_atomics(const void* address, unsigned thread) const {
  return std::any_of(acquires_.begin(), acquires_.end(), [&](const Acquire& acquire) {
    return acquire.address == address && (acquire.thread == thread || acquire.seen < barrier_);
  });
}

// ---- With vector clocks ----------------------------------------------------------------------------------------------
void HappensBefore::want_clocks() {
  if (clocks_.active()) return;
  ++now_;
  clocks_.begin(unsigned(fences_.size()), [&](unsigned a, unsigned b) {
    const WarpClock& warp = warps_[a / 32];
    const uint32_t in_warp = warp.known.empty() ? warp.all : warp.known[a % 32][b % 32];
    return a == b ? now_ : a / 32 == b / 32 ? std::max(barrier_, in_warp) : barrier_;
  });
}

bool HappensBefore::all_ordered(uint32_t time, unsigned first, unsigned count, Agent now) const {
  for (unsigned thread = first; thread < first + count && thread < fences_.size(); ++thread)
    if (!ordered(time, Agent(thread), now)) return false;
  return true;
}

void HappensBefore::release(size_t meeting, Agent thread) {
  want_clocks();
  clocks_.release(meeting, thread, ++now_);
}

void HappensBefore::complete(size_t meeting) {
  clocks_.complete(meeting);
  if (meeting >= copies_.size()) return;
  const auto& under_way = copies_[meeting];
  const uint32_t done = under_way.empty() ? ++now_ : *std::min_element(under_way.begin(), under_way.end());
  clocks_.release_unit(meeting, tma_to(meeting), done);
}

void HappensBefore::acquire(size_t meeting, Agent thread) {
  want_clocks();
  ++now_;
  clocks_.acquire(meeting, thread);
}

void HappensBefore::proxy_fence(Agent thread) {
  want_clocks();
  clocks_.proxy_fence(thread, ++now_);
}

uint32_t HappensBefore::start_copy(size_t mbarrier, Agent thread) {
  want_clocks();
  clocks_.start(tma_to(mbarrier), thread, ++now_);
  copies_[mbarrier].push_back(now_);
  return now_;
}

void HappensBefore::end_copy(size_t mbarrier, uint32_t started) { std::erase(copies_[mbarrier], started); }

void HappensBefore::start_product(unsigned warp) {
  want_clocks();
  clocks_.start_for_warp(wgmma_of_warp(warp), Agent(warp * 32), ++now_);
  products_[warp].push_back(now_);
}

void HappensBefore::end_products(unsigned warp, uint64_t count) {
  auto& started = products_[warp];
  started.erase(started.begin(), started.begin() + std::ptrdiff_t(count));
  ++now_;
  for (unsigned lane = 0; lane < 32; ++lane)
    clocks_.learn(Agent(warp * 32 + lane), wgmma_of_warp(warp), started.empty() ? now_ : started.front());
}

}  // namespace libtrain::kernels::executor
