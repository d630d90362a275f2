/// What bench/gate.py counts on the executed CUDA device: launches and bytes of a training step, by kernel, and blocks of memory. One JSON
/// object on stdout.
#include <cstdio>

#include "gate_steps.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/traffic.h"

namespace {

using namespace libtrain;
namespace executor = kernels::executor;

int count_step() {
  gate::Steps run({.mixed_precision = true, .device = Device::kCuda}, gate::model_of(2, 128, 96), 8, 16);
  run.loop.step();
  run.loop.step();
  executor::set_observer(executor::Observer::traffic);
  executor::reset_traffic();
  const int64_t blocks = allocator_stats(Device::kCuda).allocations;
  run.loop.step();
  cuda::synchronize();
  std::printf("{\"blocks\": %ld", long(allocator_stats(Device::kCuda).allocations - blocks));
  for (const executor::KernelTraffic& kernel : executor::traffic())
    std::printf(", \"%s\": [%ld, %ld]", kernel.name.c_str(), long(kernel.launches), long(kernel.requested()));
  std::printf("}\n");
  return 0;
}

}  // namespace

int main() {
  if (!executor::instrumented()) return std::fprintf(stderr, "gate_traffic: these kernels are not instrumented\n"), 2;
  return count_step();
}
