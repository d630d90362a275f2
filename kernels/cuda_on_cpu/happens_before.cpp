#include "kernels/cuda_on_cpu/happens_before.h"

#include <algorithm>

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
}

void HappensBefore::barrier() { barrier_ = ++now_; }

void HappensBefore::set_all(WarpClock& clock, uint32_t time) {
  clock.all = time;
  clock.known.clear();
}

void HappensBefore::sync_warp(unsigned warp, unsigned full_mask, unsigned mask) {
  WarpClock& clock = warps_[warp];
  const uint32_t time = ++now_;
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
  fences_[thread] = {++now_, barrier_, warps_[thread / 32].all};
  for (Acquire& acquire : acquires_)
    if (acquire.thread == thread && acquire.acquired == 0) acquire.acquired = now_;
}

std::shared_ptr<const HappensBefore::Release> HappensBefore::release_by(unsigned thread) const {
  auto release = std::make_shared<Release>(Release{block_, now_, {}});
  const Fence own = fences_[thread];
  for (unsigned other = 0; other < fences_.size(); ++other) {
    uint32_t covered = own.barrier;
    if (other / 32 == thread / 32) covered = std::max(covered, own.warp);
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
  return acquire.acquired &&
         (acquire.thread == thread || acquire.acquired < barrier_ ||
          (acquire.thread / 32 == thread / 32 && warp_synced_since(acquire.acquired, acquire.thread, thread)));
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

}  // namespace libtrain::kernels::executor
