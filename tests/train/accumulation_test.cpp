/// What a TrainLoop hands on from mini-batch to mini-batch: the totals of an update, and the step that random bits depend on.
#include <cmath>

#include "catch.h"
#include "data/temporary_file.h"
#include "toy.h"

namespace libtrain::testing {
using test::TemporaryFile;
namespace {

/// Plain descent, whose steps are as long as the gradients, over pairs in their order.
std::vector<double> weights_after(std::span<const Pair> pairs, int64_t pairs_of_a_batch, int64_t accumulate) {
  const TrainOptions options{.epochs = 2, .accumulate = accumulate, .optimizer = sgd({.learning_rate = 0.3})};
  ToyRun run(pairs, options, 0, DType::f64, {.pairs = pairs_of_a_batch, .shuffle = false});
  run.loop.run();
  return run.weights();
}

}  // namespace

TEST_CASE("accumulation: an update over several mini-batches, of different sizes too, is that over one batch",
          "[train]") {
  const auto pairs = reversal_pairs(20);
  const auto whole = weights_after(pairs, 20, 1);
  for (const auto& [size, batches] : {std::pair{10, 2}, {5, 4}, {8, 3}, {1, 20}}) {
    INFO(batches << " mini-batches of " << size);
    const auto parts = weights_after(pairs, size, batches);
    double worst = 0;
    for (size_t i = 0; i < whole.size(); ++i) worst = std::max(worst, std::abs(parts[i] - whole[i]));
    CHECK(worst <= 1e-12);
  }
}

TEST_CASE("accumulation: an update that is repeated after resuming counts once in the epoch's loss", "[train]") {
  const auto pairs = reversal_pairs(64);
  const TrainOptions options{.epochs = 1, .accumulate = 4, .optimizer = sgd({.learning_rate = 0.3})};
  const TemporaryFile place("");
  double expected = 0, loss = 0;
  ToyRun whole(pairs, options);
  whole.loop.on_step([&](const StepReport& report) {
    if (report.step == 3) save_checkpoint(place.folder(), whole.parameters, whole.loop.state());
  });
  whole.loop.on_epoch([&](const EpochReport& report) { expected = report.loss; });
  whole.loop.run();

  ToyRun resumed(pairs, options);
  resumed.loop.restore(load_checkpoint(newest_checkpoint(place.folder(), {}), resumed.parameters).state);
  bool thrown = false;
  resumed.loop.on_update([&](const Parameters&) {
    if (!std::exchange(thrown, true)) throw Error("planned");
  });
  resumed.loop.on_epoch([&](const EpochReport& report) { loss = report.loss; });
  CHECK_THROWS_AS(resumed.loop.run(), Error);
  resumed.loop.run();
  CHECK(std::abs(loss - expected) < 1e-12);
}

TEST_CASE("accumulation: every mini-batch draws a dropout of its own", "[train]") {
  const std::vector<Pair> pairs(32, {{4, 5, 6, 7}, {7, 6, 5}});  // four batches that are the same
  ToyRun run(pairs, {.epochs = 1, .adam = {.learning_rate = 1e-12}}, 0.5f, DType::f64, {.pairs = 8});
  std::vector<double> losses;
  run.loop.on_step([&](const StepReport& report) { losses.push_back(report.loss); });
  run.loop.run();
  REQUIRE(losses.size() == 4);
  for (size_t i = 1; i < losses.size(); ++i)
    for (size_t j = 0; j < i; ++j) CHECK(std::abs(losses[i] - losses[j]) > 1e-6);
}

}  // namespace libtrain::testing
