/// The memory plan on a CUDA device: against the memory that training takes there, and what it refuses.
#include "catch.h"
#include "train/memory_plan_checks.h"

namespace libtrain::testing {
namespace {

constexpr Device kCuda = Device::kCuda;

/// Small: a device may be executed on the CPU. But in bf16 not so small that the workspace of split products still grows with the share of a
/// probe: of 300 tokens, 0.8 MiB, the plan is 11 % off.
std::vector<PlannedCase> small_cases() {
  const BucketedBatchesOptions tokens{.tokens = 300};
  return {{.name = "tokens", .size = 32, .layers = 1, .vocab = 40, .batching = {.tokens = 600}, .pairs = 100},
          {.name = "long targets",
           .size = 32,
           .layers = 1,
           .vocab = 40,
           .source_length = 6,
           .target_length = 40,
           .batching = tokens,
           .pairs = 20},
          {.name = "bf16",
           .size = 32,
           .layers = 1,
           .vocab = 40,
           .batching = {.tokens = 1200},
           .mixed_precision = true,
           .pairs = 150}};
}

}  // namespace

TEST_CASE("device memory plan: activations within a tenth of what an epoch needs", "[device][memory_plan]") {
  for (const PlannedCase& c : small_cases()) {
    INFO(c.name);
    PlannedRun run(c, kCuda);
    const MemoryPlan plan = run.plan();
    const int64_t measured = run.measured_peak();
    INFO(plan.str() << "measured " << measured << ", planned " << plan.peak());
    CHECK(activations_error(plan, measured) < 0.1);
    CHECK(plan.fits());
    const MemoryPlan half = PlannedRun(c, kCuda, c.batching.tokens / 2).plan();
    // On a real device the workspace of products outweighs activations that are so small.
    if (cuda::executed_on_cpu()) CHECK(activations_error(half, measured) > 0.1);
  }
}

TEST_CASE("device memory plan: what is available is what tensors have and what is free", "[device][memory_plan]") {
  PlannedRun run(small_cases()[0], kCuda);
  run.plan();  // what the driver loads at first use is loaded
  const int64_t all = run.plan().available;
  const Tensor held = Tensor::zeros({64 << 20}, DType::bf16, kCuda);
  const MemoryPlan with_other = run.plan();
  CHECK(with_other.other >= 128 << 20);
  CHECK(std::abs(with_other.available - all) < 16 << 20);  // others may use a real device
  CHECK_FALSE(run.plan({.limit = 32 << 20}).fits());
  CHECK_THROWS_AS(run.plan({.limit = 32 << 20}).check(), OutOfMemory);
}

}  // namespace libtrain::testing
