/// Ready for capture: whatever changes from step to step reaches kernels through memory, so a whole step that is given to the device again,
/// with the arguments of the last one, is the next step.
#include "catch.h"
#include "kernels/cuda_on_cpu/stream.h"
#include "train/toy.h"

namespace libtrain::testing {
namespace {

namespace executor = kernels::executor;

const double kRate = 5e-3;

TrainOptions options() {
  return {.epochs = 8, .clip_norm = 0.5, .adam = {.learning_rate = kRate}, .schedule = linear_schedule(4, 20)};
}

/// A run of one batch an epoch, always the same: what a step computes depends on the step alone.
struct Run : ToyRun {
  Run(std::span<const Pair> pairs, const ParametersOptions& store)
      : ToyRun(pairs, options(), 0.1f, store, {.pairs = 8, .batches_per_bucket = 1, .shuffle = false}) {}

  void step_to(int64_t steps) {
    while (loop.state().steps < steps) loop.step();
    cuda::synchronize();
  }
  executor::Recording recorded_step() {
    executor::begin_recording();
    step_to(loop.state().steps + 1);
    return executor::end_recording();
  }
};

/// The step after `done` others, without the host's part but for what it puts into memory before.
void replay_step(const Parameters& parameters, const executor::Recording& step, int64_t done, int64_t random_step) {
  parameters.set_random_step(uint64_t(random_step));
  parameters.set_learning_rate(kRate * options().schedule(done + 1));
  executor::replay(cuda::current_stream(), step);
  cuda::synchronize();
}

void check_replay(const ParametersOptions& store) {
  const auto pairs = reversal_pairs(8);
  Run eager(pairs, store), replayed(pairs, store);
  replayed.step_to(3);  // from now on memory comes back at the same addresses
  const size_t launches = replayed.recorded_step().size();
  const executor::Recording step = replayed.recorded_step();
  CHECK(step.size() == launches);
  CHECK(launches > 50);
  for (const int64_t done : {5, 6, 7}) {
    replay_step(replayed.parameters, step, done, done);
    eager.step_to(done + 1);
    CHECK(replayed.parameters.step().updates == done + 1);
    CHECK(replayed.weights() == eager.weights());
  }
}

}  // namespace

TEST_CASE("capture: a step that is given to the device again is the next step, bit for bit", "[device]") {
  SECTION("f32") { check_replay({.device = Device::kCuda, .seed = 5}); }
  SECTION("mixed precision") { check_replay({.mixed_precision = true, .device = Device::kCuda, .seed = 5}); }
}

TEST_CASE("capture: the check would notice a step number that did not arrive", "[device]") {
  const auto pairs = reversal_pairs(8);
  const ParametersOptions store{.device = Device::kCuda, .seed = 5};
  Run eager(pairs, store), replayed(pairs, store);
  replayed.step_to(4);
  const executor::Recording step = replayed.recorded_step();
  replay_step(replayed.parameters, step, 5, 4);
  eager.step_to(6);
  CHECK(replayed.weights() != eager.weights());
}

}  // namespace libtrain::testing
