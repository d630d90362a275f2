#include "libtrain/train_loop.h"

#include <pthread.h>

#include <cmath>
#include <functional>
#include <thread>

#include "any_threads.h"
#include "catch.h"
#include "data/temporary_file.h"
#include "toy.h"

namespace libtrain::testing {
using test::message_of;

namespace {

/// Calls work() on a thread with so little stack.
void run_on_stack(size_t bytes, std::function<void()> work) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, bytes) == 0);
  pthread_t thread;
  const auto call = [](void* of) -> void* {
    (*static_cast<std::function<void()>*>(of))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, call, &work) == 0);
  CHECK(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
}

}  // namespace

TEST_CASE("train loop: learns to reverse sequences", "[train]") {
  const auto pairs = reversal_pairs(64);
  ToyRun run(pairs,
             {.epochs = 150, .clip_norm = 1, .adam = {.learning_rate = 1e-2}, .schedule = linear_schedule(20, 1200)});
  std::vector<double> losses;
  run.loop.on_epoch([&](const EpochReport& report) { losses.push_back(report.loss); });
  CHECK(run.loop.run());
  REQUIRE(losses.size() == 150);
  CHECK(losses.front() > 1.5);
  CHECK(losses.back() < 0.02);

  std::vector<std::vector<int32_t>> sources;
  for (const Pair& pair : pairs) sources.push_back(pair.source);
  const auto outputs = greedy_decode(run.model, sources, 10);
  int right = 0;
  for (size_t i = 0; i < pairs.size(); ++i) right += outputs[i] == pairs[i].target;
  CHECK(right >= 62);
}

TEST_CASE("train loop: once a batch of its shapes was seen, a step asks the system for no memory", "[train]") {
  const std::vector<Pair> pairs(64, {{4, 5, 6, 7}, {7, 6, 5}});
  // No batches built ahead: when background threads ask for memory is up to the system.
  ToyRun run(pairs, {.epochs = 3, .clip_norm = 1}, 0.1f, DType::f32,
             {.pairs = 8, .batches_per_bucket = 2, .prefetch = 0});
  std::vector<int64_t> calls;
  run.loop.on_step([&](const StepReport&) { calls.push_back(allocator_stats(Device::kCpu).system_allocations); });
  CHECK(run.loop.run());
  REQUIRE(calls.size() == 24);
  CHECK(calls.back() == calls[1]);
}

TEST_CASE("train loop: the epoch's loss is the average over its targets, and steps add up", "[train]") {
  const auto pairs = reversal_pairs(50);
  ToyRun run(pairs, {.epochs = 2, .accumulate = 3, .clip_norm = 1});
  double sum = 0;
  int64_t targets = 0, updates = 0, steps = 0;
  run.loop.on_step([&](const StepReport& report) {
    sum += report.loss * double(report.targets);
    targets += report.targets;
    updates += report.updated;
    CHECK(report.step == ++steps);
    CHECK(report.batches == 7);
    CHECK(report.updated == (report.batch % 3 == 2 || report.batch == 6));  // the last, incomplete accumulation counts
  });
  run.loop.on_epoch([&](const EpochReport& report) {
    CHECK(std::abs(report.loss - sum / double(targets)) < 1e-12);
    CHECK(report.targets == targets);
    sum = 0;
    targets = 0;
  });
  run.loop.run();
  CHECK(updates == 6);
  CHECK(run.loop.state().updates == 6);
  CHECK(run.parameters.step().updates == 6);
}

TEST_CASE("train loop: max_updates ends training in mid-epoch, and nothing happens after completion", "[train]") {
  const auto pairs = reversal_pairs(80);
  ToyRun run(pairs, {.epochs = 100, .max_updates = 13});
  int checkpoints = 0;
  run.loop.on_checkpoint([&](const TrainState& state) {
    ++checkpoints;
    CHECK(state.updates == 13);
    CHECK(state.epoch == 1);
    CHECK(state.batch == 3);
  });
  CHECK(run.loop.run());
  CHECK(checkpoints == 1);
  CHECK_FALSE(run.loop.step());
}

TEST_CASE("train loop: sgd, and an optimizer of the program's own that does the same", "[train]") {
  const auto pairs = reversal_pairs(40);
  ToyRun plain(pairs, {.epochs = 2, .clip_norm = 0.5, .optimizer = sgd({.learning_rate = 0.5})}, 0, DType::f64);
  const Optimizer mine{0.5, [](const Parameters& parameters) {
                         const StepState state = parameters.step();
                         const auto w = parameters.values().view<double>();
                         const auto g = parameters.gradients().view<const double>();
                         for (int64_t i = 0; i < w.size(); ++i)
                           w.data[i] -= state.learning_rate * state.gradient_scale * g.data[i];
                         finish_update(parameters);
                       }};
  ToyRun own(pairs, {.epochs = 2, .clip_norm = 0.5, .optimizer = mine}, 0, DType::f64);
  const auto before = plain.weights();
  plain.loop.run();
  own.loop.run();
  CHECK(own.parameters.step().updates == plain.loop.state().updates);
  const auto expected = plain.weights(), actual = own.weights();
  double moved = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    REQUIRE(std::abs(actual[i] - expected[i]) < 1e-12);
    moved = std::max(moved, std::abs(expected[i] - before[i]));
  }
  CHECK(moved > 0.01);
}

TEST_CASE("train loop: gradient values are clipped before the norm is taken", "[train]") {
  const auto pairs = reversal_pairs(16);
  ToyRun run(pairs, {.max_updates = 1, .clip_value = 1e-4});
  run.loop.on_step([&](const StepReport& report) {
    const double most = 1e-4 * std::sqrt(double(run.parameters.count()));
    CHECK(report.gradient_norm <= most * (1 + 1e-6));
    CHECK(report.gradient_norm > 0.2 * most);
  });
  run.loop.run();
}

TEST_CASE("train loop: learning rates follow the schedule, and long gradients are clipped", "[train]") {
  const auto pairs = reversal_pairs(40);
  ToyRun run(pairs,
             {.epochs = 2, .clip_norm = 0.5, .adam = {.learning_rate = 0.01}, .schedule = linear_schedule(4, 10)});
  const auto expected = linear_schedule(4, 10);
  bool clipped = false;
  run.loop.on_step([&](const StepReport& report) {
    CHECK(report.learning_rate == 0.01 * expected(report.updates));
    clipped |= report.gradient_norm > 0.5;
  });
  run.loop.run();
  CHECK(clipped);
}

TEST_CASE("train loop: two loops in one process do not know of each other", "[train]") {
  const auto pairs = reversal_pairs(32);
  const TrainOptions options{.epochs = 3};
  ToyRun alone(pairs, options, 0.1f);
  alone.loop.run();

  ToyRun first(pairs, options, 0.1f), second(pairs, options, 0.1f);
  while (first.loop.step()) second.loop.step();  // step by step
  CHECK(first.weights() == alone.weights());
  CHECK(second.weights() == alone.weights());

  ToyRun third(pairs, options, 0.1f), fourth(pairs, options, 0.1f);
  std::thread other([&] { third.loop.run(); });  // at the same time
  fourth.loop.run();
  other.join();
  CHECK(third.weights() == alone.weights());
  CHECK(fourth.weights() == alone.weights());
}

TEST_CASE("train loop: a mini-batch whose targets are all ignored changes nothing", "[train]") {
  class NoTargets : public BatchSource<Batch> {
   public:
    int64_t begin_epoch(int64_t) override { return 1; }
    Batch get(int64_t) override {
      Batch batch = make_batch(std::span<const Pair>(pairs_));
      batch.target_out.fill(kPad);
      return batch;
    }
    std::vector<Pair> pairs_ = reversal_pairs(4);
  } source;
  Parameters parameters;
  const Transformer model(parameters, toy_options());
  const auto before = parameters.values().to_vector<float>();
  TrainLoop loop(parameters, source, [&](const Batch& batch) { return model.loss(batch); }, {.clip_norm = 1});
  loop.on_step([&](const StepReport& report) {
    CHECK(report.loss == 0);
    CHECK(report.targets == 0);
    CHECK(report.skipped);
    CHECK(report.gradient_norm == 0);
  });
  loop.on_epoch([](const EpochReport& report) { CHECK(report.loss == 0); });
  loop.run();
  CHECK(parameters.values().to_vector<float>() == before);
}

TEST_CASE("train loop: a gradient that is not finite skips the update and is counted", "[train]") {
  const auto pairs = reversal_pairs(16);
  ToyRun run(pairs, {.epochs = 2});
  const auto before = run.weights();
  int step = 0;
  run.loop.on_update([&](const Parameters& parameters) {
    if (++step == 1) parameters.gradients().view<float>().data[0] = NAN;
  });
  run.loop.on_step([&](const StepReport& report) {
    CHECK(report.skipped == (report.step == 1));
    if (report.step == 1) CHECK(run.weights() == before);
  });
  run.loop.run();
  CHECK(run.parameters.step().skipped_updates == 1);
  for (const double weight : run.weights()) REQUIRE(std::isfinite(weight));
}

TEST_CASE("train loop: a plain scalar loss is averaged over the mini-batches of an update", "[train]") {
  const auto pairs = reversal_pairs(16);
  const auto train = [&](bool scalar) {
    Parameters parameters({.dtype = DType::f64, .seed = 5});
    const Transformer model(parameters, toy_options());
    BucketedBatches batches(pairs, {.pairs = 16});
    TrainOptions options{.epochs = 3, .clip_norm = 1};
    if (scalar) {
      TrainLoop loop(
          parameters, batches, [&](const Batch& batch) { return model.loss(batch).mean(); }, options);
      loop.run();
    } else {
      TrainLoop loop(
          parameters, batches, [&](const Batch& batch) { return model.loss(batch); }, options);
      loop.run();
    }
    return parameters.values().to_vector<double>();
  };
  const auto token = train(false), scalar = train(true);
  for (size_t i = 0; i < token.size(); ++i) CHECK(std::abs(token[i] - scalar[i]) < 1e-9);
}

TEST_CASE("train loop: options out of range are named", "[train]") {
  const auto pairs = reversal_pairs(4);
  const auto refused = [&](const TrainOptions& options) {
    return message_of<InvalidArgument>([&] { ToyRun(pairs, options); });
  };
  CHECK(refused({.epochs = -1}) ==
        "[train_loop] epochs must be >= 0, got -1; max_updates can end a run of many epochs early");
  CHECK(refused({.max_updates = -1}) == "[train_loop] max_updates must be >= 0 (0: no limit), got -1");
  CHECK(refused({.checkpoint_every = -1}) == "[train_loop] checkpoint_every must be >= 0 (0: only at the end), got -1");
  CHECK(refused({.accumulate = 0}) == "[train_loop] accumulate must be >= 1, got 0; 1 updates after every mini-batch");
  CHECK(refused({.clip_norm = -2}) == "[train_loop] clip_norm must be >= 0 and finite (0: no clipping), got -2");
  CHECK(refused({.clip_norm = INFINITY}) == "[train_loop] clip_norm must be >= 0 and finite (0: no clipping), got inf");
  CHECK(refused({.adam = {.learning_rate = -1}}) ==
        "[adam] learning_rate must be > 0 and < 1e30, got -1; 1e-3 is a usual peak");
  CHECK(refused({.clip_value = -2}) == "[train_loop] clip_value must be >= 0 and finite (0: no clipping), got -2");
  CHECK(refused({.clip_value = NAN}).find("[train_loop] clip_value must be >= 0 and finite") == 0);
  CHECK(refused({.average_decay = 1}) ==
        "[train_loop] average_decay must be in [0, 1), got 1; 0 leaves the average alone, 0.999 is usual");
  CHECK(refused({.average_decay = 0.9}) ==
        "[train_loop] average_decay is 0.9, but the store keeps no average; make it with .average = true");
  CHECK(refused({.optimizer = Optimizer{.learning_rate = 0, .update = [](const Parameters&) {}}}) ==
        "[train_loop] the optimizer's learning_rate must be > 0 and < 1e30, got 0; set it beside update");
  CHECK(refused({.optimizer = Optimizer{.learning_rate = 1}}) ==
        "[train_loop] the optimizer has no update function; adam() and sgd() make whole ones");
  CHECK(refused({.schedule = nullptr}).find("schedule is empty") != std::string::npos);
}

TEST_CASE("train loop: a state that no run can be in is refused, at once or when its epoch begins", "[train]") {
  const auto pairs = reversal_pairs(16);
  ToyRun run(pairs, {.epochs = 9, .accumulate = 2});
  CHECK(message_of<InvalidArgument>([&] { run.loop.restore({.batch = 2, .steps = 2, .accumulated = 2}); }) ==
        "[train_loop] cannot restore epoch 0, batch 2, step 2, update 0 with 2 accumulated mini-batches of 2; pass "
        "what load_checkpoint() returned, to a loop with the same accumulate");
  CHECK_THROWS_AS(run.loop.restore({.epoch = -1}), InvalidArgument);
  CHECK_THROWS_AS(run.loop.restore({.batch = 0, .steps = 1, .accumulated = 1}), InvalidArgument);
  CHECK(run.loop.step());  // as if nothing had been asked
  run.loop.restore({.epoch = 3, .batch = 2, .steps = 8});
  CHECK(message_of<InvalidArgument>([&] { run.loop.run(); }) ==
        "[train_loop] epoch 3 has 2 batches, cannot start at batch 2; give it the data that it was saved with, and "
        "never none");
}

TEST_CASE("train loop: a schedule that gives no learning rate is told, and the update is not made", "[train]") {
  const auto pairs = reversal_pairs(16);
  for (const double factor : {1 / 0.0, -1.0, std::nan("")}) {
    ToyRun run(pairs, {.schedule = [&](int64_t update) { return update == 2 ? factor : 1; }});
    CHECK(run.loop.step());
    const auto before = run.weights();
    CHECK(message_of<InvalidArgument>([&] { run.loop.step(); }).find("[train_loop] schedule(2) is ") == 0);
    CHECK(run.weights() == before);
    CHECK(run.loop.state().updates == 1);
  }
}

TEST_CASE("train loop: a loss in bf16 counts, and one that is no pair of scalars is refused", "[train]") {
  const auto pairs = reversal_pairs(16);
  Parameters parameters({.mixed_precision = true, .seed = 5});
  const Tensor w = parameters.add("w", {1}, init::constant(1));
  BucketedBatches batches(pairs, {.pairs = 8});
  TrainLoop loop(parameters, batches, [&](const Batch&) { return scale(w, 3).reshape({}); }, {});
  double loss = 0;
  loop.on_step([&](const StepReport& report) {
    loss = report.loss;
    CHECK_FALSE(report.skipped);
  });
  CHECK(loop.step());
  CHECK(loss == 3);
  CHECK(parameters.step().updates == 1);
  TrainLoop two(parameters, batches, [&](const Batch&) { return concat({w, w}, 0); }, {});
  CHECK(message_of<InvalidArgument>([&] { two.step(); }) ==
        "[train_loop] sum must be a scalar, got bf16[2]; sum() reduces");
  TrainLoop wide(parameters, batches,
                 [&](const Batch&) {
                   return TokenLoss{sum(w), Tensor::full({}, 1, DType::i32)};
                 },
                 {});
  CHECK(message_of<InvalidArgument>([&] { wide.step(); }).find("[train_loop] count must be i64[]") == 0);
}

TEST_CASE("train loop: mixed precision learns", "[train]") {
  const auto pairs = reversal_pairs(64);
  const TrainOptions options{.epochs = 12, .clip_norm = 1, .adam = {.learning_rate = 1e-2}};
  const auto losses = [&](bool mixed) {
    ToyRun run(pairs, options, 0, ParametersOptions{.mixed_precision = mixed, .seed = 5});
    std::vector<double> losses;
    run.loop.on_epoch([&](const EpochReport& report) { losses.push_back(report.loss); });
    run.loop.run();
    return losses;
  };
  const auto exact = losses(false), mixed = losses(true);
  CHECK(exact != mixed);
  CHECK(std::abs(exact.front() - mixed.front()) < 0.02 * exact.front());  // bf16 keeps 8 bits
  CHECK(mixed.back() < 0.5 * mixed.front());
}

TEST_CASE("train loop: half a MiB of stack is enough for a thread that computes", "[train]") {
  const auto pairs = reversal_pairs(16);
  for (const DType dtype : {DType::f32, DType::f64}) {
    ToyRun run(pairs, {.epochs = 1}, 0.1f, dtype);
    int64_t updates = 0;
    run_on_stack(512 << 10, [&] {
      const Threads alone(1);
      while (run.loop.step()) ++updates;
    });
    CHECK(updates == 2);
  }
}

}  // namespace libtrain::testing
