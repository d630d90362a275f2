/// A TrainLoop that is asked for a checkpoint, stopped, or left by an exception: it goes on exactly.
#include "catch.h"
#include "libtrain/train_loop.h"
#include "toy.h"

namespace libtrain::testing {

TEST_CASE("train loop: a checkpoint that is asked for comes after the mini-batch, once, and changes nothing",
          "[train]") {
  const auto pairs = reversal_pairs(64);
  const TrainOptions options{.epochs = 2, .accumulate = 3};
  ToyRun whole(pairs, options, 0.2f), asked(pairs, options, 0.2f);
  whole.loop.run();
  std::vector<int64_t> saved;
  asked.loop.on_step([&](const StepReport& report) {
    if (report.step == 4) asked.loop.request_checkpoint();
  });
  asked.loop.on_checkpoint([&](const TrainState& state) { saved.push_back(state.steps); });
  asked.loop.run();
  CHECK(saved == std::vector<int64_t>{5, 16});
  CHECK(asked.weights() == whole.weights());
}

TEST_CASE("train loop: a stop request returns after the mini-batch, and training goes on exactly", "[train]") {
  const auto pairs = reversal_pairs(40);
  const TrainOptions options{.epochs = 4, .accumulate = 2};
  ToyRun whole(pairs, options, 0.2f), stopped(pairs, options, 0.2f);
  whole.loop.run();
  stopped.loop.on_step([&](const StepReport& report) {
    if (report.step == 7) stopped.loop.request_stop();
  });
  CHECK_FALSE(stopped.loop.run());
  CHECK(stopped.loop.state().steps == 7);
  while (stopped.loop.step()) {
  }
  CHECK(stopped.weights() == whole.weights());
}

TEST_CASE("train loop: a run that was stopped is answered, and the next one goes on", "[train]") {
  const auto pairs = reversal_pairs(40);
  const TrainOptions options{.epochs = 4, .accumulate = 2};
  ToyRun whole(pairs, options, 0.2f), stopped(pairs, options, 0.2f);
  whole.loop.run();
  std::vector<int64_t> saved;
  stopped.loop.on_step([&](const StepReport& report) {
    if (report.step == 7) stopped.loop.request_stop();
  });
  stopped.loop.on_checkpoint([&](const TrainState& state) {
    CHECK(stopped.loop.stop_requested() == (state.steps < 20));  // one that throws here leaves the request unanswered
    saved.push_back(state.steps);
  });
  stopped.loop.request_stop();  // before it runs
  CHECK_FALSE(stopped.loop.run());
  CHECK_FALSE(stopped.loop.run());
  CHECK_FALSE(stopped.loop.stop_requested());
  CHECK(stopped.loop.run());
  CHECK(saved == std::vector<int64_t>{0, 7, 20});
  CHECK(stopped.weights() == whole.weights());
}

TEST_CASE("train loop: an exception in any event or in the loss leaves a loop that goes on exactly", "[train]") {
  const auto pairs = reversal_pairs(40);
  const TrainOptions options{.epochs = 3, .accumulate = 2, .checkpoint_every = 2};
  ToyRun calm(pairs, options, 0.2f);
  std::vector<double> calm_losses, losses;
  calm.loop.on_epoch([&](const EpochReport& report) { calm_losses.push_back(report.loss); });
  calm.loop.run();

  for (const std::string where : {"step", "epoch", "update", "checkpoint", "loss"}) {
    INFO("thrown in " << where);
    Parameters parameters({.seed = 5});
    const Transformer model(parameters, toy_options(0.2f));
    BucketedBatches batches(pairs, {.pairs = 8, .batches_per_bucket = 2});
    int calls = 0;
    const auto maybe_throw = [&](const std::string& here) {
      if (here == where && (++calls == 2 || calls == 4)) throw Error("planned in " + here);
    };
    TrainLoop loop(
        parameters, batches,
        [&](const Batch& batch) {
          const TokenLoss loss = model.loss(batch);
          maybe_throw("loss");
          return loss;
        },
        options);
    losses.clear();
    loop.on_step([&](const StepReport&) { maybe_throw("step"); });
    loop.on_epoch([&](const EpochReport& report) {
      losses.push_back(report.loss);
      maybe_throw("epoch");
    });
    loop.on_update([&](const Parameters&) { maybe_throw("update"); });
    loop.on_checkpoint([&](const TrainState&) { maybe_throw("checkpoint"); });
    int thrown = 0;
    while (!loop.complete()) {
      try {
        loop.run();
      } catch (const Error& error) {
        CHECK(error.what() == "planned in " + where);
        ++thrown;
      }
    }
    CHECK(thrown >= 1);
    CHECK(parameters.values().to_vector<float>() == calm.parameters.values().to_vector<float>());
    CHECK(losses == calm_losses);
  }
}

}  // namespace libtrain::testing
