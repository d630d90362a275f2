// What execution costs: libtrain_executor_tests "[timing]" prints it, in time of the processor. Not a test of anything, so it runs only when asked for.
#include <cstdio>
#include <ctime>

#include "tests/cuda/device_array.h"
#include "tests/cuda/toy_kernels.h"

using namespace libtrain;
using namespace libtrain::kernels;

namespace {
template <class F> void report(const char* what, double events, F&& launch) {
  const std::clock_t begin = std::clock();
  launch();
  runtime::synchronize(Cuda{});
  std::printf("%-44s %7.1f ns\n", what, double(std::clock() - begin) / CLOCKS_PER_SEC * 1e9 / events);
}
}  // namespace

TEST_CASE("timing", "[.][timing]") {
  constexpr int64_t kBlocks = 1000, kRounds = 1000, kElements = 1 << 20;
  const DeviceArray<float> x(numbers(kElements)), y(kElements);
  report("start and end of a thread", kBlocks * 256, [] { toy::only_barriers({}, kBlocks, 0); });
  report("__syncthreads, per thread", 10 * 256 * kRounds, [] { toy::only_barriers({}, 10, kRounds); });
  report("__shfl_xor_sync, per lane", 10 * 256 * kRounds, [&] { toy::only_shuffles({}, 10, kRounds, y.data()); });
  report("y[i] = 2 x[i], per element", kElements, [&] { toy::doubled({}, x.data(), y.data(), kElements, 12, 256); });
  for (const auto observer : {executor::Observer::none, executor::Observer::traffic}) {
    if (!executor::instrumented()) break;
    executor::set_observer(observer);
    report(observer == executor::Observer::none ? "the same, not observed" : "the same, traffic counted", kElements,
           [&] { toy::doubled({}, x.data(), y.data(), kElements, 12, 256); });
  }
  executor::set_observer(executor::Observer::race);
}
