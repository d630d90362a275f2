/// What a TrainLoop takes over from before it, from between its mini-batches and from handlers: only what is meant to count.
#include <cmath>
#include <utility>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {
using test::message_of;
using test::TemporaryFile;

namespace {

/// Batch i is the number i + 1.
class Numbers : public BatchSource<Tensor> {
 public:
  explicit Numbers(int64_t batches) : batches_(batches) {}
  int64_t begin_epoch(int64_t) override { return batches_; }
  Tensor get(int64_t index) override { return Tensor::full({1}, double(index + 1), DType::f64); }

 private:
  int64_t batches_;
};

/// Two parameters that begin as 1. loss() is w x, or w x + a x.
struct TwoWeights {
  Parameters parameters{{.dtype = DType::f64, .average = true}};
  Tensor a = parameters.add("a", {1}, init::constant(1)), w = parameters.add("w", {1}, init::constant(1));
  Tensor loss(const Tensor& x) const { return sum(mul(w, x)); }
  Tensor loss_of_both(const Tensor& x) const { return add(loss(x), sum(mul(a, x))); }
};

TrainOptions by_sgd(int64_t accumulate = 1) {
  TrainOptions options{.accumulate = accumulate};
  options.optimizer = sgd({.learning_rate = 0.1});
  return options;
}

const auto is_a = [](const Parameters::Slot& slot) { return slot.name == "a"; };

}  // namespace

TEST_CASE("train loop: a new loop counts nothing of an update that an earlier one has left open", "[train]") {
  TwoWeights model;
  Numbers numbers(8);
  bool fails = false;
  const auto loss = [&](const Tensor& x) {
    if (std::exchange(fails, false)) throw Error("once");
    return model.loss(x);
  };
  {
    TrainLoop earlier(model.parameters, numbers, loss, by_sgd(4));
    for (int i = 0; i < 3; ++i) earlier.step();
  }
  TrainLoop loop(model.parameters, numbers, loss, by_sgd());
  if (GENERATE(false, true)) loop.restore({});
  fails = GENERATE(false, true);
  if (fails) CHECK_THROWS_AS(loop.step(), Error);
  CHECK(loop.state().epoch_loss_sum == 0);
  CHECK(loop.state().epoch_targets == 0);
  loop.step();
  CHECK(std::abs(model.w.item() - 0.9) < 1e-12);
}

TEST_CASE("train loop: a loss that no parameter takes part in is refused, unless there is nothing to learn",
          "[train]") {
  TwoWeights model;
  Numbers numbers(8);
  TrainLoop loop(model.parameters, numbers, [&](const Tensor& x) {
    const NoTape forgotten;
    return model.loss(x);
  });
  const std::string told = message_of<InvalidArgument>([&] { loop.step(); });
  CHECK(
      told.starts_with("[train_loop] the loss depends on no parameter that is to be learnt, so that updates would not "
                       "lower it; compute it from these parameters by operations, without NoTape"));
  CHECK(loop.state().updates == 0);
  model.parameters.freeze(is_a);
  CHECK(message_of<InvalidArgument>([&] { loop.step(); }) == told);
  model.parameters.freeze([](const auto&) { return true; });
  loop.step();
  CHECK(model.w.item() == 1);
}

TEST_CASE("train loop: weights of a checkpoint within an accumulation can be trained from anew", "[train]") {
  const TemporaryFile place("");
  Numbers numbers(8);
  {
    TwoWeights saved;
    TrainLoop loop(
        saved.parameters, numbers, [&](const Tensor& x) { return saved.loss(x); }, by_sgd(4));
    for (int i = 0; i < 3; ++i) loop.step();
    save_checkpoint(place.folder(), saved.parameters, loop.state());
  }
  TwoWeights model;
  load_checkpoint(newest_checkpoint(place.folder(), {}), model.parameters);
  TrainLoop loop(
      model.parameters, numbers, [&](const Tensor& x) { return model.loss(x); }, by_sgd());
  loop.step();
  CHECK(std::abs(model.w.item() - 0.9) < 1e-12);
}

TEST_CASE("train loop: a backward pass between mini-batches does not count in the next update", "[train]") {
  TwoWeights model;
  Numbers numbers(4);
  TrainLoop loop(
      model.parameters, numbers, [&](const Tensor& x) { return model.loss_of_both(x); }, by_sgd());
  std::vector<double> norms;
  loop.on_step([&](const StepReport& report) {
    norms.push_back(report.gradient_norm);
    Tape tape;
    tape.backward(scale(model.loss(Tensor::full({1}, 100, DType::f64)), 1));
  });
  while (loop.step()) {
  }
  REQUIRE(norms.size() >= 4);
  for (size_t i = 0; i < 4; ++i) CHECK(std::abs(norms[i] - double(i + 1) * std::sqrt(2)) < 1e-12);
}

TEST_CASE("train loop: a gradient that a checkpoint has for a frozen parameter counts in no update", "[train]") {
  const TemporaryFile place("");
  Numbers numbers(8);
  {
    TwoWeights saved;
    TrainLoop loop(
        saved.parameters, numbers, [&](const Tensor& x) { return saved.loss_of_both(scale(x, 1000)); }, by_sgd(2));
    loop.step();
    save_checkpoint(place.folder(), saved.parameters, loop.state());
  }
  const bool freeze_first = GENERATE(true, false);
  TwoWeights model;
  if (freeze_first) model.parameters.freeze(is_a);
  TrainLoop loop(
      model.parameters, numbers, [&](const Tensor& x) { return model.loss(x); }, by_sgd(2));
  loop.restore(load_checkpoint(newest_checkpoint(place.folder(), {}), model.parameters).state);
  if (!freeze_first) model.parameters.freeze(is_a);
  std::vector<double> norms;
  loop.on_step([&](const StepReport& report) {
    if (report.updated) norms.push_back(report.gradient_norm);
  });
  while (loop.step()) {
  }
  REQUIRE(norms.size() >= 4);
  CHECK(std::abs(norms[0] - (1000 + 2) / 2.0) < 1e-9);  // w: 1000 from the checkpoint, and 2
  CHECK(std::abs(norms[1] - (3 + 4) / 2.0) < 1e-9);
  CHECK(std::abs(norms[3] - (7 + 8) / 2.0) < 1e-9);
}

TEST_CASE("train loop: on_update finds zeros for parameters that were not used, and what it writes there counts",
          "[train]") {
  TwoWeights model;
  Numbers numbers(2);
  TrainLoop loop(
      model.parameters, numbers, [&](const Tensor& x) { return x.item() == 1 ? model.loss_of_both(x) : model.loss(x); },
      by_sgd());
  std::vector<double> seen;
  loop.on_update([&](const Parameters& parameters) {
    const Tensor gradient = parameters.slice(parameters.gradients(), parameters.slots()[0]);
    seen.push_back(gradient.to_vector<double>()[0]);
    gradient.fill(5);
  });
  loop.step();
  loop.step();
  CHECK(seen == std::vector<double>{1, 0});
  CHECK(std::abs(model.a.item() - (1 - 2 * 0.5)) < 1e-12);
}

TEST_CASE("memory plan: gradients of a checkpoint are not overwritten unasked", "[train]") {
  const TemporaryFile place("");
  const std::vector<Pair> pairs(24, Pair{{5, 6, 7}, {8, 9}});
  BucketedBatches batches(pairs, {.pairs = 4});
  const TransformerOptions options{.source_vocab = 12, .target_vocab = 12, .layer = {.size = 16, .heads = 2}};
  {
    Parameters parameters;
    Transformer model(parameters, options);
    TrainLoop loop(parameters, batches, [&](const Batch& batch) { return model.loss(batch); }, {.accumulate = 3});
    loop.step();
    save_checkpoint(place.folder(), parameters, loop.state());
  }
  Parameters parameters;
  Transformer model(parameters, options);
  const auto loss = [&](const Batch& batch) { return model.loss(batch); };
  load_checkpoint(newest_checkpoint(place.folder(), {}), parameters);
  CHECK(message_of<InvalidArgument>([&] { plan_memory(parameters, batches, loss); }) != "no exception");
}

TEST_CASE("train loop: an exception behind an epoch's last update leaves a state that can be resumed", "[train]") {
  TwoWeights model;
  Numbers numbers(2);
  TrainOptions options = by_sgd();
  options.epochs = 3;
  options.rewind = [](const NonFiniteReport&) -> bool { throw CheckpointError("none"); };
  const auto poisoned = [&](const Tensor& x) { return model.loss(x.item() == 2 ? scale(x, NAN) : x); };
  TrainState state;
  {
    TrainLoop loop(model.parameters, numbers, poisoned, options);
    CHECK_THROWS_AS(loop.run(), CheckpointError);
    state = loop.state();
  }
  CHECK(state.epoch == 1);
  CHECK(state.batch == 0);
  TrainLoop loop(
      model.parameters, numbers, [&](const Tensor& x) { return model.loss(x); }, options);
  loop.restore(state);
  int64_t epochs = 0;
  loop.on_epoch([&](const EpochReport&) { ++epochs; });
  CHECK(loop.run());
  CHECK(epochs == 2);
}

TEST_CASE("train loop: restored within an update whose loss is not finite, an exception spoils no epoch's average",
          "[train]") {
  TwoWeights model;
  Numbers numbers(6);
  const auto loss = [&](const Tensor& x) {
    if (x.item() == 5) throw DataError("no fifth");
    return model.loss(x.item() == 4 ? scale(x, NAN) : x);
  };
  TrainLoop loop(model.parameters, numbers, loss, by_sgd(3));
  for (int i = 0; i < 4; ++i) loop.step();
  loop.restore(loop.state());
  CHECK_THROWS_AS(loop.step(), DataError);
  CHECK(std::isfinite(loop.state().epoch_loss_sum));
  CHECK(loop.state().steps == 3);
}

TEST_CASE("averaged weights: a second scope within the first is refused, and shows nothing else", "[train]") {
  TwoWeights model;
  model.parameters.average().fill(5);
  {
    const AveragedWeights shown(model.parameters);
    CHECK(model.w.item() == 5);
    CHECK(message_of<InvalidArgument>([&] { AveragedWeights(model.parameters); }) ==
          "[moving_average] the store shows the average of its weights; let AveragedWeights go first");
    CHECK(model.w.item() == 5);
  }
  CHECK(model.w.item() == 1);
}

TEST_CASE("parameters: values can be exchanged within a store", "[nn]") {
  TwoWeights model;
  model.w.fill(2);
  model.parameters.copy_values(model.parameters, [](const std::string& name) { return name == "a" ? "w" : "a"; });
  CHECK(model.a.item() == 2);
  CHECK(model.w.item() == 1);
}

TEST_CASE("parameters: one that is too large for any machine is named", "[nn]") {
  Parameters parameters;
  const auto refused = [&](const Shape& shape) {
    return message_of<OutOfMemory>([&] { parameters.add("w", shape, init::constant(0)); });
  };
  CHECK(refused({int64_t(1) << 40, 1 << 20}) ==
        "[parameters] no memory for the 1152921504606846976 initial values of w, [1099511627776, 1048576]; use a "
        "smaller model");
  CHECK(refused({int64_t(1) << 45}).find("initial values of w, [35184372088832]") != std::string::npos);
  CHECK(parameters.slots().empty());
  CHECK(parameters.add("w", {2}, init::constant(0)).numel() == 2);
}

TEST_CASE("nonfinite: a view of a part does not hide that it was given what is not finite", "[train]") {
  Parameters parameters;
  const Tensor w = parameters.add("w", {3, 2}, init::constant(1));
  w.rows(0, 1).fill(NAN);
  DetectNonFinite detect(parameters);
  const Tape tape;
  const std::string message = message_of<Diverged>([&] { slice(w, 0, 2); });
  CHECK(message.find("slice") != std::string::npos);
  CHECK(message.find("it was given them: input 0, f32[3, 2], has 2 NaN") != std::string::npos);
}

}  // namespace libtrain::testing
