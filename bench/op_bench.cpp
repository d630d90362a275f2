/// Forward and backward of every big row of the table (all rows with --all) in f32, with GB/s or GFLOP/s and the share of the roofs
/// that the same process measures first: a copy of 256 MiB, and a product of 1024 × 1024 matrices.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstring>
#include <string_view>

#include "op_cases.h"

namespace {

using namespace libtrain;
using namespace libtrain::testing;

double seconds_of(const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i < 5; ++i) {
    const auto began = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  }
  return best;
}

struct Roofs {
  double copy_bytes_per_second, gemm_flops_per_second;
};

/// Measured with all threads that the kernels use: scale() reads and writes every element once.
const Roofs& roofs() {
  static const Roofs measured = [] {
    const Tensor big = Tensor::zeros({64 << 20});
    const Tensor a = Tensor::full({1024, 1024}, 1), b = Tensor::full({1024, 1024}, 1);
    const double copy = seconds_of([&] { benchmark::DoNotOptimize(scale(big, 1)); });
    const double gemm = seconds_of([&] { benchmark::DoNotOptimize(matmul(a, b)); });
    return Roofs{2.0 * double(big.numel()) * 4 / copy, 2.0 * 1024 * 1024 * 1024 / gemm};
  }();
  return measured;
}

void report(benchmark::State& state, double elements, double flops) {
  const double runs = double(state.iterations());
  const auto rate = [&](double amount, double roof) {
    state.counters["of_roof"] = benchmark::Counter(amount * runs / roof, benchmark::Counter::kIsRate);
  };
  // A row is bound by what takes longer at the roofs.
  const bool by_memory = elements * 4 / roofs().copy_bytes_per_second >= flops / roofs().gemm_flops_per_second;
  state.counters[by_memory ? "GB/s" : "GFLOP/s"] =
      benchmark::Counter((by_memory ? elements * 4 : flops) * runs / 1e9, benchmark::Counter::kIsRate);
  by_memory ? rate(elements * 4, roofs().copy_bytes_per_second) : rate(flops, roofs().gemm_flops_per_second);
}

void forward(benchmark::State& state, const OpCase& row) {
  const auto inputs = make_inputs(row, DType::f32, Device::kCpu);
  const NoTape nothing_recorded;
  for (auto _ : state) benchmark::DoNotOptimize(row.call(inputs));
  report(state, row.elements, row.flops);
}

/// Forward and backward together; compulsory traffic and work of backward are taken as twice those of forward.
void forward_backward(benchmark::State& state, const OpCase& row) {
  const auto inputs = make_inputs(row, DType::f32, Device::kCpu);
  const Tensor like = row.call(inputs);
  const Tensor upstream = Tensor::full(like.shape(), 1, like.dtype());
  for (auto _ : state) {
    Tape tape;
    tape.backward(row.call(inputs), upstream);
    for (const Tensor& input : inputs) input.clear_grad();
  }
  report(state, 3 * row.elements, 3 * row.flops);
}

}  // namespace

int main(int argc, char** argv) {
  bool all = false;
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]) == "--all") {
      all = true;
      std::rotate(argv + i, argv + i + 1, argv + argc);
      --argc;
    }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("device", describe(Device::kCpu));
  benchmark::AddCustomContext("copy_roof_GB/s", std::to_string(roofs().copy_bytes_per_second / 1e9));
  benchmark::AddCustomContext("gemm_roof_GFLOP/s", std::to_string(roofs().gemm_flops_per_second / 1e9));
  for (const OpCase& row : op_cases()) {
    if (!row.big && !all) continue;
    benchmark::RegisterBenchmark(("forward/" + row.name).c_str(), [&row](auto& state) { forward(state, row); });
    benchmark::RegisterBenchmark(("forward+backward/" + row.name).c_str(),
                                 [&row](auto& state) { forward_backward(state, row); });
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
