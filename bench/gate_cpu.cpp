/// What bench/gate.py counts on the CPU.
///
///   gate_cpu           under callgrind: forward and backward of each operation's largest row, and a training step, each as a part of its own
///   gate_cpu --time N  N training steps of a larger model; prints the median of their seconds
#include <valgrind/callgrind.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>

#include "gate_steps.h"
#include "op_cases.h"

namespace {

using namespace libtrain;
using namespace libtrain::testing;

/// The second of two calls, as the part `name`: what is made on first use is made, and nothing else is slowed down by counting.
void count(const std::string& name, const std::function<void()>& work) {
  work();
  CALLGRIND_START_INSTRUMENTATION;
  work();
  CALLGRIND_DUMP_STATS_AT(name.c_str());
  CALLGRIND_STOP_INSTRUMENTATION;
}

/// Forward and backward.
void count_row(const OpCase& row) {
  const auto inputs = make_inputs(row, DType::f32, Device::kCpu);
  const Tensor like = row.call(inputs), upstream = Tensor::full(like.shape(), 1, like.dtype());
  count(row.name, [&] {
    Tape tape;
    tape.backward(row.call(inputs), upstream);
    for (const Tensor& input : inputs) input.clear_grad();
  });
}

/// Of each operation the row with the most elements.
std::map<std::string, const OpCase*> largest_rows() {
  std::map<std::string, const OpCase*> rows;
  for (const OpCase& row : op_cases()) {
    if (!row.big) continue;
    const OpCase*& largest = rows[row.name.substr(0, row.name.find(' '))];
    if (!largest || row.elements > largest->elements) largest = &row;
  }
  return rows;
}

void time_steps(int steps) {
  gate::Steps run({}, gate::model_of(3, 128, 48), 64, 16);
  std::vector<double> seconds;
  run.loop.on_step([&](const StepReport& report) {
    if (report.step > 3) seconds.push_back(report.seconds);
  });
  while (int(seconds.size()) < steps) run.loop.step();
  std::ranges::sort(seconds);
  std::printf("%.6f\n", seconds[seconds.size() / 2]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && !std::strcmp(argv[1], "--time")) return time_steps(std::atoi(argv[2])), 0;
  for (const auto& [op, row] : largest_rows()) count_row(*row);
  gate::Steps run({}, gate::model_of(1, 64, 48), 16, 12);
  run.loop.step();
  const int64_t blocks = allocator_stats(Device::kCpu).allocations;
  run.loop.step();
  std::printf("blocks a step: %ld\n", long(allocator_stats(Device::kCpu).allocations - blocks));
  count("a training step", [&] { run.loop.step(); });
  return 0;
}
