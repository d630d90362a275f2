/// What gpu_bench measures with, and how it prints.
#pragma once
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

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

/// Times what is enqueued between two events on the stream. Before each run a fill of `flushed_bytes` empties the cache and gives the host
/// the time to enqueue the run whole, so that no launch is waited for.
class Stopwatch {
 public:
  explicit Stopwatch(int64_t flushed_bytes) : flush_({flushed_bytes}, DType::f32, Device::kCuda) {}

  /// Microseconds.
  Percentiles measure(const std::function<void()>& work) {
    namespace runtime = kernels::runtime;
    constexpr int kRuns = 20;
    for (int i = 0; i < 3; ++i) work();
    std::vector<std::pair<runtime::Event, runtime::Event>> timers;
    for (int i = 0; i < kRuns; ++i) {
      flush_.fill(0);
      timers.emplace_back(runtime::create_timer(), runtime::create_timer());
      runtime::record(timers.back().first, cuda::current_stream());
      work();
      runtime::record(timers.back().second, cuda::current_stream());
    }
    cuda::synchronize();
    std::vector<double> times;
    for (const auto& [from, to] : timers) {
      times.push_back(1e3 * runtime::milliseconds_between(from, to));
      runtime::destroy_event(from);
      runtime::destroy_event(to);
    }
    return percentiles(std::move(times));
  }

 private:
  Tensor flush_;
};

/// Measured in the same process.
struct Roofs {
  double bytes_per_us = 0, flops_per_us = 0;
};

/// One kernel or group of kernels: what it must move at least, what it must compute.
struct Case {
  std::string name;
  double bytes, flops;
  std::function<void()> work;
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

/// Whole training steps (gpu_steps.cpp), those whose name contains `filter`.
void run_steps(const Roofs& roofs, bool small, const std::string& filter);

}  // namespace libtrain::bench
