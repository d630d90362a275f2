/// What reports of a loop say of time, and in which order they come after a handler threw.
#include <chrono>
#include <cstdio>
#include <set>
#include <thread>

#include "catch.h"
#include "toy.h"

namespace libtrain::testing {
namespace {

using std::chrono::steady_clock;
constexpr double kForward = 5e-3, kHandler = 20e-3;  // seconds of sleep

void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

}  // namespace

TEST_CASE("train loop: the time of a mini-batch is its own, without that of handlers, and an epoch's is their sum",
          "[train]") {
  const auto pairs = reversal_pairs(24);
  ToyRun run(pairs, {});
  TrainLoop loop(
      run.parameters, run.batches,
      [&](const Batch& batch) {
        sleep(kForward);
        return run.model.loss(batch);
      },
      TrainOptions{.epochs = 3});
  double sum = 0, of_training = 0;
  int steps = 0, epochs = 0;
  loop.on_step([&](const StepReport& report) {
    CHECK(report.seconds >= kForward);
    sum += report.seconds;
    ++steps;
    sleep(kHandler);
  });
  loop.on_epoch([&](const EpochReport& report) {
    CHECK(std::abs(report.seconds - sum) < 1e-9);
    of_training += std::exchange(sum, 0);
    ++epochs;
    sleep(kHandler);
  });
  const auto begin = steady_clock::now();
  loop.run();
  const double wall = std::chrono::duration<double>(steady_clock::now() - begin).count();
  CHECK(std::tuple(steps, epochs) == std::tuple(9, 3));
  CHECK(of_training <= wall - (steps + epochs) * kHandler);
}

TEST_CASE("train loop: a loss and a norm that are no numbers print without a sign", "[train][nonfinite]") {
  const double negative = std::copysign(NAN, -1.0);
  const auto print = [](double value) {
    char text[40];
    std::snprintf(text, sizeof(text), "%.3f", value);
    return std::string(text);
  };
  REQUIRE(print(negative) == "-nan");
  CHECK(format_message("{} {:.3f} {:.1e} {}", negative, negative, negative, -INFINITY) == "nan nan nan -inf");
  LossSpikes spikes;
  for (int i = 0; i < 40; ++i) spikes.add(1);
  CHECK(spikes.add(negative)->str().starts_with("loss nan is not finite"));

  Parameters parameters;
  const Tensor w = parameters.add("w", {3}, init::constant(1));
  struct Two : BatchSource<int> {
    int64_t begin_epoch(int64_t) override { return 2; }
    int get(int64_t) override { return 0; }
  } batches;
  TrainLoop loop(parameters, batches, [&](int) { return scale(sum(w), negative); });
  REQUIRE(print(scale(sum(w), negative).item()) == "-nan");
  int steps = 0;
  loop.on_step([&](const StepReport& report) {
    ++steps;
    CHECK(print(report.loss) == "nan");
    CHECK(print(report.gradient_norm) == "nan");
  });
  loop.on_nonfinite([&](const NonFiniteReport& report) { CHECK(report.str().find("-nan") == std::string::npos); });
  loop.run();
  CHECK(steps == 2);
}

TEST_CASE("train loop: after a handler threw, the end of its epoch is told before the next mini-batch", "[train]") {
  const auto pairs = reversal_pairs(24);
  ToyRun run(pairs, {.epochs = 2});
  std::vector<std::string> events;
  bool thrown = false;
  run.loop.on_step([&](const StepReport& report) {
    events.push_back("step " + std::to_string(report.step));
    if (report.batch + 1 == report.batches && !std::exchange(thrown, true)) throw Error("planned");
  });
  run.loop.on_epoch([&](const EpochReport& report) { events.push_back("epoch " + std::to_string(report.epoch)); });
  CHECK_THROWS_AS(run.loop.run(), Error);
  CHECK(run.loop.run());
  CHECK(events ==
        std::vector<std::string>{"step 1", "step 2", "step 3", "epoch 0", "step 4", "step 5", "step 6", "epoch 1"});
}

TEST_CASE("train loop: a checkpoint that was due when a handler threw is made before the next mini-batch", "[train]") {
  const auto pairs = reversal_pairs(64);  // 8 mini-batches
  ToyRun run(pairs, {.checkpoint_every = 3});
  std::set<int64_t> to_throw;
  std::vector<std::string> events;
  run.loop.on_step([&](const StepReport& report) {
    events.push_back("step " + std::to_string(report.step));
    if (report.step == 4) run.loop.request_checkpoint();
    if (to_throw.erase(report.step)) throw Error("planned");
  });
  run.loop.on_checkpoint([&](const TrainState& state) {
    events.push_back("saved " + std::to_string(state.steps));
    if (to_throw.erase(-state.steps)) throw Error("planned");
  });
  to_throw = {3, 5, -6};  // when one is due, when one was asked for, and in the handler that saves
  for (int i = 0; i < 3; ++i) CHECK_THROWS_AS(run.loop.run(), Error);
  CHECK(run.loop.run());
  CHECK(events == std::vector<std::string>{"step 1", "step 2", "step 3", "saved 3", "step 4", "step 5", "saved 5",
                                           "step 6", "saved 6", "step 7", "step 8", "saved 8"});
}

TEST_CASE("train loop: a checkpoint that was due is forgotten when the loop is set back", "[train]") {
  const auto pairs = reversal_pairs(64);
  ToyRun run(pairs, {.checkpoint_every = 3});
  const TrainState begin = run.loop.state();
  int saved = 0;
  run.loop.on_step([&](const StepReport& report) {
    if (report.step == 3) throw Error("planned");
  });
  run.loop.on_checkpoint([&](const TrainState&) { ++saved; });
  CHECK_THROWS_AS(run.loop.run(), Error);
  run.loop.restore(begin);
  CHECK(run.loop.step());
  CHECK(saved == 0);
}

TEST_CASE("train loop: what was still to be told is not told when the loop is set back", "[train]") {
  const auto pairs = reversal_pairs(16);  // 2 mini-batches
  ToyRun run(pairs, {.epochs = 2});
  const TrainState begin = run.loop.state();
  std::vector<int64_t> steps, epochs;
  bool thrown = false;
  run.loop.on_step([&](const StepReport& report) {
    steps.push_back(report.step);
    if (report.step == 2 && !std::exchange(thrown, true))
      throw Error("planned");  // before the end of the epoch is told
  });
  run.loop.on_epoch([&](const EpochReport& report) { epochs.push_back(report.epoch); });
  CHECK_THROWS_AS(run.loop.run(), Error);
  run.loop.restore(begin);
  CHECK(run.loop.step());
  CHECK(epochs.empty());
  CHECK(run.loop.run());
  CHECK(steps == std::vector<int64_t>{1, 2, 1, 2, 3, 4});
  CHECK(epochs == std::vector<int64_t>{0, 1});
}

}  // namespace libtrain::testing
