/// What gpu_bench measures with, and how it prints.
#pragma once
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/count_nonfinite.h"
#include "kernels/cuda/runtime.h"
#include "libtrain/libtrain.h"

namespace libtrain::bench {

struct Percentiles {
  double low, median, high;  // the 10th, 50th and 90th
};

inline Percentiles percentiles(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t count = values.size();
  return {values[count / 10], values[count / 2], values[count - 1 - count / 10]};
}

/// Times what is enqueued between begin() and end(), by events on the stream.
class Stopwatch {
 public:
  /// flush() fills so many f32.
  explicit Stopwatch(int64_t flushed)
      : flush_({flushed}, DType::f32, Device::kCuda), counts_(Tensor::zeros({2}, DType::i64, Device::kCuda)) {}

  /// Fills memory, several times the cache, and reads it again: the cache then holds nothing of what is measured, and nothing that is still to
  /// be written back, and the host has the time to enqueue what follows whole, so that no launch is waited for.
  void flush() {
    flush_.fill(0);
    kernels::count_nonfinite<float>(cuda::current_stream(), {flush_.view<const float>(), counts_.view<int64_t>()});
  }
  void begin() { mark(); }
  void end() { mark(); }

  /// Microseconds of a run of `work`, all that lies between its begin() and end(). Each run comes after a flush().
  Percentiles measure(const std::function<void(Stopwatch&)>& work) {
    constexpr int kWarmUp = 3, kRuns = 20;
    std::vector<double> times;
    std::vector<std::vector<kernels::runtime::Event>> runs;
    for (int i = 0; i < kWarmUp + kRuns; ++i) {
      flush();
      marks_.clear();
      work(*this);
      runs.push_back(std::move(marks_));
    }
    cuda::synchronize();
    for (int i = kWarmUp; i < kWarmUp + kRuns; ++i) times.push_back(time_of(runs[size_t(i)]));
    for (const auto& run : runs)
      for (const auto& event : run) kernels::runtime::destroy_event(event);
    return percentiles(std::move(times));
  }

 private:
  void mark() {
    marks_.push_back(kernels::runtime::create_timer());
    kernels::runtime::record(marks_.back(), cuda::current_stream());
  }
  static double time_of(const std::vector<kernels::runtime::Event>& marks) {
    double time = 0;
    for (size_t i = 0; i + 1 < marks.size(); i += 2)
      time += 1e3 * kernels::runtime::milliseconds_between(marks[i], marks[i + 1]);
    return time;
  }

  Tensor flush_, counts_;
  std::vector<kernels::runtime::Event> marks_;  // of the run that is being enqueued
};

/// Measured in the same process.
struct Roofs {
  double bytes_per_us = 0, flops_per_us = 0;
};

/// One JSON object on a line; `more` ends it: ",\"key\":value…".
inline void print(const std::string& name, double bytes, double flops, const Percentiles& us, const Roofs& roofs,
                  const std::string& more = "") {
  const double by_memory = roofs.bytes_per_us > 0 ? bytes / roofs.bytes_per_us : 0,
               by_products = roofs.flops_per_us > 0 ? flops / roofs.flops_per_us : 0;
  std::printf(
      "{\"name\":\"%s\",\"bytes\":%.0f,\"flops\":%.0f,\"us\":%.2f,\"us_p10\":%.2f,\"us_p90\":%.2f,\"GB_per_s\":%.1f,"
      "\"TFLOP_per_s\":%.2f,\"of_roof\":%.3f%s}\n",
      name.c_str(), bytes, flops, us.median, us.low, us.high, bytes / us.median * 1e-3, flops / us.median * 1e-6,
      std::max(by_memory, by_products) / us.median, more.c_str());
  std::fflush(stdout);
}

/// Whole training steps (gpu_steps.cpp), those whose name contains `filter`; whether there are any.
bool run_steps(const Roofs& roofs, bool small, const std::string& filter);

}  // namespace libtrain::bench
