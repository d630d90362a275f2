/// What reports of a loop say of time, and in which order they come after a handler threw.
#include <chrono>
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

}  // namespace libtrain::testing
