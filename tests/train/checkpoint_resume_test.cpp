/// Checkpoints that a run goes on from: it ends as if it had never been interrupted.
#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/checkpoint.h"
#include "toy.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::TemporaryFile;

TrainOptions forty_steps() {
  return {.epochs = 5,
          .accumulate = 3,
          .clip_norm = 1,
          .adam = {.learning_rate = 5e-3},
          .schedule = cosine_schedule(4, 15)};
}

/// Weights, moments and step count at the end of a run.
struct End {
  std::vector<double> weights, first, second;
  int64_t updates, steps;
  std::vector<double> epoch_losses;
  bool operator==(const End&) const = default;
};

End end_of(const ToyRun& run, std::vector<double> losses) {
  const auto& p = run.parameters;
  return {run.weights(),
          p.first_moment().cast(DType::f64).to_vector<double>(),
          p.second_moment().cast(DType::f64).to_vector<double>(),
          p.step().updates,
          run.loop.state().steps,
          std::move(losses)};
}

}  // namespace

TEST_CASE("checkpoint: a run resumed from any of its 40 steps ends with the same bits", "[checkpoint]") {
  const auto pairs = reversal_pairs(64);  // 8 batches an epoch: updates after 3, 3 and 2 of them
  const TemporaryFile place("");
  std::vector<double> losses;
  ToyRun whole(pairs, forty_steps(), 0.2f);
  whole.loop.on_step([&](const StepReport&) { save_checkpoint(place.folder(), whole.parameters, whole.loop.state()); });
  whole.loop.on_epoch([&](const EpochReport& report) { losses.push_back(report.loss); });
  whole.loop.run();
  const End expected = end_of(whole, losses);
  REQUIRE(expected.steps == 40);

  int mid_accumulation = 0, mid_epoch = 0;
  for (int64_t step = 1; step <= 40; ++step) {
    INFO("resumed after step " << step);
    ToyRun resumed(pairs, forty_steps(), 0.2f);
    for (const auto& slot : resumed.parameters.slots()) slot.value.fill(3);  // nothing of the start must survive
    const Checkpoint checkpoint =
        load_checkpoint(place.folder() + format_message("/step-{:08}", step), resumed.parameters);
    CHECK(checkpoint.state.steps == step);
    mid_accumulation += checkpoint.state.accumulated > 0;
    mid_epoch += checkpoint.state.batch > 0;
    resumed.loop.restore(checkpoint.state);
    std::vector<double> rest(losses.begin(), losses.begin() + checkpoint.state.epoch);
    resumed.loop.on_epoch([&](const EpochReport& report) { rest.push_back(report.loss); });
    resumed.loop.run();
    REQUIRE(end_of(resumed, rest) == expected);
  }
  CHECK(mid_accumulation >= 20);
  CHECK(mid_epoch >= 30);
}

TEST_CASE("checkpoint: a run with momentum, groups, frozen parameters and averaged weights goes on exactly",
          "[checkpoint]") {
  const auto pairs = reversal_pairs(64);
  const TemporaryFile place("");
  const TrainOptions options{.epochs = 3,
                             .clip_norm = 1,
                             .clip_value = 0.01,
                             .optimizer = sgd({.learning_rate = 0.5, .momentum = 0.9, .nesterov = true}),
                             .average_decay = 0.8};
  const auto group = [](ToyRun& run) {
    run.parameters.set_group([](const auto& slot) { return slot.value.rank() < 2; }, {.rate = 0.5});
    run.parameters.freeze([](const auto& slot) { return slot.name.starts_with("encoder.norm"); });
  };
  ToyRun whole(pairs, options, 0.2f, ParametersOptions{.seed = 5, .average = true});
  group(whole);
  whole.loop.on_step([&](const StepReport&) { save_checkpoint(place.folder(), whole.parameters, whole.loop.state()); });
  whole.loop.run();
  CHECK(whole.parameters.get("encoder.norm.weight").to_vector<float>() == std::vector<float>(16, 1));
  const auto averages = whole.parameters.average().to_vector<float>();
  CHECK(averages != whole.parameters.values().to_vector<float>());
  for (const int64_t step : {1, 5, 8, 23}) {
    ToyRun resumed(pairs, options, 0.2f, ParametersOptions{.seed = 5, .average = true});
    group(resumed);
    for (const auto& slot : resumed.parameters.slots()) slot.value.fill(3);
    resumed.parameters.average().fill(4);
    resumed.loop.restore(
        load_checkpoint(place.folder() + format_message("/step-{:08}", step), resumed.parameters).state);
    resumed.loop.run();
    CHECK(resumed.weights() == whole.weights());
    const auto again = resumed.parameters.average().to_vector<float>();
    for (const auto& slot : resumed.parameters.slots())
      for (int64_t i = slot.offset; i < slot.offset + slot.value.numel(); ++i)
        REQUIRE(again[size_t(i)] == averages[size_t(i)]);
  }
  ToyRun without(pairs, {.optimizer = options.optimizer}, 0.2f);
  CHECK(message_of<CheckpointError>([&] {
          load_checkpoint(newest_checkpoint(place.folder(), {}), without.parameters);
        }).find("unexpected average/") != std::string::npos);
}

TEST_CASE("checkpoint: an exception after resuming in mid-accumulation repeats the whole update", "[checkpoint]") {
  const auto pairs = reversal_pairs(64);
  const TemporaryFile place("");
  ToyRun whole(pairs, forty_steps());
  whole.loop.on_step([&](const StepReport& report) {
    if (report.step == 10) save_checkpoint(place.folder(), whole.parameters, whole.loop.state());
  });
  whole.loop.run();
  ToyRun resumed(pairs, forty_steps());
  const Checkpoint checkpoint = load_checkpoint(newest_checkpoint(place.folder(), {}), resumed.parameters);
  REQUIRE(checkpoint.state.accumulated == 2);
  resumed.loop.restore(checkpoint.state);
  bool thrown = false;
  resumed.loop.on_update([&](const Parameters&) {
    if (!std::exchange(thrown, true)) throw Error("planned");
  });
  CHECK_THROWS_AS(resumed.loop.run(), Error);
  CHECK(resumed.loop.state().steps == 8);
  resumed.loop.run();
  CHECK(resumed.weights() == whole.weights());
}

}  // namespace libtrain::testing
