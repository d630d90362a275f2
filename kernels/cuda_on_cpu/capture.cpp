#include "kernels/cuda_on_cpu/capture.h"

#include <algorithm>
#include <utility>

namespace libtrain::kernels::executor {

size_t Capture::join() {
  given_.push_back(0);
  seen_.emplace_back();
  for (auto* counts : {&seen_, &points_})
    for (Counts& each : *counts) each.resize(given_.size());
  return given_.size() - 1;
}

void Capture::add(Step step) {
  seen_[step.lane][step.lane] = ++given_[step.lane];
  steps_.push_back(std::move(step));
}

void Capture::run(size_t lane, std::function<void()> work) { add({lane, std::move(work)}); }

size_t Capture::record(size_t lane) {
  const size_t point = points_.size();
  points_.push_back(seen_[lane]);
  steps_.push_back({lane, nullptr, point});
  return point;
}

void Capture::wait(size_t lane, size_t point) {
  add({lane, nullptr, std::nullopt, point});
  const Counts& done = points_[point];
  for (size_t i = 0; i < done.size(); ++i) seen_[lane][i] = std::max(seen_[lane][i], done[i]);
}

}  // namespace libtrain::kernels::executor
