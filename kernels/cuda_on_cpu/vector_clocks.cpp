#include "kernels/cuda_on_cpu/vector_clocks.h"

#include <algorithm>

namespace libtrain::kernels::executor {
namespace {

void join(std::vector<uint32_t>& own, const std::vector<uint32_t>& other) {
  for (size_t i = 0; i < own.size(); ++i) own[i] = std::max(own[i], other[i]);
}

void limit(std::vector<uint32_t>& own, const std::vector<uint32_t>& other) {
  for (size_t i = 0; i < own.size(); ++i) own[i] = std::min(own[i], other[i]);
}

}  // namespace

void VectorClocks::Clock::join(const Clock& other) {
  executor::join(known, other.known);
  executor::join(proxied, other.proxied);
}

void VectorClocks::clear(unsigned threads) {
  active_ = true;
  threads_ = threads;
  const size_t columns = threads + (kLastAgent - kFirstUnit);
  const Clock nothing{std::vector<uint32_t>(columns), std::vector<uint32_t>(columns)};
  rows_.assign(columns, nothing);
  gathered_.fill(nothing);
  released_.fill(nothing);
}

void VectorClocks::meet(const std::vector<Agent>& threads, uint32_t time) {
  Clock joined = row(threads.front());
  for (const Agent thread : threads) joined.join(row(thread));
  for (const Agent thread : threads) joined.known[thread] = time;
  for (const Agent thread : threads) row(thread) = joined;
}

void VectorClocks::release(size_t meeting, Agent thread, uint32_t time) {
  row(thread).known[thread] = time;
  gathered_[meeting].join(row(thread));
}

void VectorClocks::complete(size_t meeting) {
  std::swap(released_[meeting], gathered_[meeting]);
  for (auto* part : {&gathered_[meeting].known, &gathered_[meeting].proxied}) std::fill(part->begin(), part->end(), 0u);
}

void VectorClocks::release_unit(size_t meeting, Agent unit, uint32_t time) {
  uint32_t& known = released_[meeting].known[column(unit)];
  known = std::max(known, time);
}

void VectorClocks::learn(Agent thread, Agent unit, uint32_t time) { row(thread).known[column(unit)] = time; }

void VectorClocks::proxy_fence(Agent thread, uint32_t time) {
  Clock& own = row(thread);
  own.known[thread] = time;
  join(own.proxied, own.known);
}

void VectorClocks::start(Agent unit, Agent thread, uint32_t time) {
  row(unit) = row(thread);
  row(unit).known[thread] = time;
}

void VectorClocks::start_for_warp(Agent unit, Agent first, uint32_t time) {
  for (Agent thread = first; thread < first + 32; ++thread) row(thread).known[thread] = time;
  Clock least = row(first);
  for (Agent thread = first; thread < first + 32; ++thread) {
    limit(least.known, row(thread).known);
    limit(least.proxied, row(thread).proxied);
  }
  row(unit) = least;
}

}  // namespace libtrain::kernels::executor
