/// Training on a CUDA device: the CPU's loss curve, the same bits again, no waiting.
#include <algorithm>
#include <cmath>
#include <thread>

#include "catch.h"
#include "data/temporary_file.h"
#include "train/injection.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::TemporaryFile;

TrainOptions twenty_steps() {
  return {.epochs = 4,
          .clip_norm = 0.5,
          .adam = {.learning_rate = 5e-3},
          .schedule = linear_schedule(4, 20)};  // 5 batches an epoch
}

ParametersOptions store(Device device, DType dtype = DType::f32) {
  return {.dtype = dtype, .device = device, .seed = 5};
}

struct Curve {
  std::vector<double> losses, norms, weights;
};

Curve train(Device device, DType dtype, const TrainOptions& options = twenty_steps()) {
  const auto pairs = reversal_pairs(40);
  ToyRun run(pairs, options, 0.1f, store(device, dtype));
  Curve curve;
  run.loop.on_step([&](const StepReport& report) {
    curve.losses.push_back(report.loss);
    curve.norms.push_back(report.gradient_norm);
  });
  CHECK(run.loop.run());
  curve.weights = run.weights();
  return curve;
}

void check_close(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    INFO("element " << i << ": " << a[i] << " and " << b[i]);
    CHECK(std::abs(a[i] - b[i]) <= tolerance * std::max(1.0, std::abs(b[i])));
  }
}

}  // namespace

TEST_CASE("device training: 20 steps with dropout, clipping and a schedule follow the CPU", "[device]") {
  const Curve cpu = train(Device::kCpu, DType::f64), f64 = train(Device::kCuda, DType::f64);
  REQUIRE(cpu.losses.size() == 20);
  check_close(f64.losses, cpu.losses, 1e-9);
  check_close(f64.norms, cpu.norms, 1e-9);
  check_close(f64.weights, cpu.weights, 1e-8);
  const Curve f32 = train(Device::kCuda, DType::f32);
  check_close(f32.losses, cpu.losses, 1e-4);
}

TEST_CASE("device training: the same bits come twice, whatever the mini-batches of an update", "[device]") {
  TrainOptions options = twenty_steps();
  options.accumulate = 2;
  const Curve once = train(Device::kCuda, DType::f32, options), twice = train(Device::kCuda, DType::f32, options);
  CHECK(once.weights == twice.weights);
  CHECK(once.losses == twice.losses);
}

TEST_CASE("device training: two loops on streams of their own do not know of each other", "[device]") {
  const auto pairs = reversal_pairs(32);
  const TrainOptions options{.epochs = 2};
  ToyRun alone(pairs, options, 0.1f, store(Device::kCuda));
  alone.loop.run();
  ToyRun first(pairs, options, 0.1f, store(Device::kCuda)), second(pairs, options, 0.1f, store(Device::kCuda));
  while (first.loop.step()) second.loop.step();
  CHECK(first.weights() == alone.weights());
  CHECK(second.weights() == alone.weights());
  ToyRun third(pairs, options, 0.1f, store(Device::kCuda)), fourth(pairs, options, 0.1f, store(Device::kCuda));
  std::thread other([&] { third.loop.run(); });
  fourth.loop.run();
  other.join();
  CHECK(third.weights() == alone.weights());
  CHECK(fourth.weights() == alone.weights());
}

TEST_CASE(
    "device training: a step after warm-up allocates nothing, copies nothing blockingly, waits at most for the step "
    "before last",
    "[device]") {
  std::vector<Pair> pairs(40, {{4, 5, 6}, {6, 5, 4}});  // every batch of one shape
  ToyRun run(pairs, {.epochs = 3, .clip_norm = 1}, 0.1f, store(Device::kCuda));
  std::vector<cuda::Counters> counted;
  std::vector<int64_t> system_allocations;
  run.loop.on_step([&](const StepReport&) {
    counted.push_back(cuda::counters());
    system_allocations.push_back(allocator_stats(Device::kCuda).system_allocations);
  });
  run.loop.run();
  REQUIRE(counted.size() == 15);
  const size_t from = 10, to = 12;  // in the last epoch, before reports are hurried for its end
  CHECK(counted[to].allocations == counted[from].allocations);
  CHECK(system_allocations[to] == system_allocations[from]);
  CHECK(counted[to].blocking_copies == counted[from].blocking_copies);
  CHECK(counted[to].host_waits - counted[from].host_waits <= int64_t(to - from));
  CHECK(counted[to].launches > counted[from].launches);
}

TEST_CASE("device training: reports come late, but in order, and before epochs and checkpoints", "[device]") {
  const auto pairs = reversal_pairs(40);
  ToyRun run(pairs, {.epochs = 2, .checkpoint_every = 3}, 0, store(Device::kCuda));
  std::vector<int64_t> steps;
  run.loop.on_step([&](const StepReport& report) { steps.push_back(report.step); });
  run.loop.on_epoch([&](const EpochReport& report) { CHECK(int64_t(steps.size()) == report.steps); });
  run.loop.on_checkpoint([&](const TrainState& state) { CHECK(int64_t(steps.size()) == state.steps); });
  run.loop.run();
  CHECK(steps == std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
}

TEST_CASE("device training: a run resumed from any step ends with the same bits", "[device]") {
  const auto pairs = reversal_pairs(24);  // 3 batches an epoch: updates after 2 and 1 of them
  const TrainOptions options{
      .epochs = 3, .accumulate = 2, .clip_norm = 1, .schedule = cosine_schedule(2, 6), .average_decay = 0.9};
  ParametersOptions averaged = store(Device::kCuda);
  averaged.average = true;
  const TemporaryFile place("");
  ToyRun whole(pairs, options, 0.2f, averaged);
  while (whole.loop.step()) save_checkpoint(place.folder(), whole.parameters, whole.loop.state());
  for (int64_t step = 1; step <= 9; ++step) {
    INFO("resumed after step " << step);
    ToyRun resumed(pairs, options, 0.2f, averaged);
    const std::string path = place.folder() + format_message("/step-{:08}", step);
    resumed.loop.restore(load_checkpoint(path, resumed.parameters).state);
    resumed.loop.run();
    CHECK(same_bits(trained_state(resumed.parameters), trained_state(whole.parameters)));
    CHECK(resumed.loop.state().steps == 9);
  }
}

TEST_CASE("device training: a token id that only a kernel sees stops the updates and is told", "[device]") {
  class Corrupted : public BatchSource<Batch> {
   public:
    int64_t begin_epoch(int64_t) override { return 6; }
    Batch get(int64_t index) override {
      Batch batch = make_batch(std::span<const Pair>(pairs_)).to(Device::kCuda);
      if (index == 2 && corrupt) batch.source_ids.rows(3, 4).copy_from(Tensor::from<int32_t>({777}, {1}));
      return batch;
    }
    bool corrupt = true;

   private:
    std::vector<Pair> pairs_ = reversal_pairs(4);
  } source;
  Parameters parameters(store(Device::kCuda));
  const Transformer model(parameters, toy_options());
  TrainLoop loop(parameters, source, [&](const Batch& batch) { return model.loss(batch); }, {});
  const std::string message = message_of<InvalidArgument>([&] { loop.run(); });
  CHECK(message.find("[embedding] index 777 at row 3") != std::string::npos);
  CHECK(message.find("is outside [0, 14)") != std::string::npos);
  CHECK(parameters.step().updates == 2);  // those of the batches before
  for (const double weight : parameters.values().cast(DType::f64).to_vector<double>()) REQUIRE(std::isfinite(weight));
  source.corrupt = false;
  CHECK(loop.run());
  CHECK(parameters.step().updates > 2);

  // Told when run() ends in the midst of an update: that update begins anew.
  source.corrupt = true;
  TrainLoop stopped(parameters, source, [&](const Batch& batch) { return model.loss(batch); }, {.accumulate = 6});
  for (int i = 0; i < 2; ++i) CHECK(stopped.step());
  stopped.on_step([&](const StepReport& report) {
    if (report.step >= 1) stopped.request_stop();
  });
  CHECK(message_of<InvalidArgument>([&] { stopped.run(); }).find("[embedding] index 777 at row 3") == 0);
  CHECK(stopped.state().batch == 0);
  CHECK(stopped.state().accumulated == 0);
  CHECK_FALSE(parameters.slots()[0].value.has_grad());
}

TEST_CASE("device training: what a program enqueues between steps comes behind the step before", "[device]") {
  const auto pairs = reversal_pairs(40);
  ToyRun run(pairs, {}, 0, store(Device::kCuda));
  std::vector<float> before = run.parameters.values().to_vector<float>();
  for (int i = 0; i < 3; ++i) {  // of 5: after the last of an epoch the loop waits itself
    run.loop.step();
    const Tensor copy = run.parameters.values().clone();  // on this thread's stream, which is not the loop's
    CHECK(copy.to_vector<float>() != before);
    before = copy.to_vector<float>();
  }
}

TEST_CASE("device training: after an exception, each mini-batch is reported once and in order", "[device]") {
  const auto pairs = reversal_pairs(40);
  ToyRun run(pairs, {}, 0, store(Device::kCuda));
  int calls = 0;
  TrainLoop loop(
      run.parameters, run.batches,
      [&](const Batch& batch) {
        if (++calls == 4) throw Error("planned");  // while reports are under way
        return run.model.loss(batch);
      },
      TrainOptions{.epochs = 2});
  std::vector<int64_t> steps;
  loop.on_step([&](const StepReport& report) { steps.push_back(report.step); });
  CHECK_THROWS_AS(loop.run(), Error);
  CHECK(loop.run());
  CHECK(steps == std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
}

TEST_CASE("device training: a batch is there for the stream that asked for it", "[device]") {
  const auto pairs = reversal_pairs(8);
  BucketedBatches here(pairs, {.pairs = 8, .shuffle = false}),
      there(pairs, {.pairs = 8, .shuffle = false, .batch = {.device = Device::kCuda}});
  here.begin_epoch(0);
  there.begin_epoch(0);
  const Batch expected = here.get(0), copied = there.get(0);
  CHECK(copied.target_out.device() == Device::kCuda);
  CHECK(copied.target_out.to_vector<int32_t>() == expected.target_out.to_vector<int32_t>());  // copied last
  CHECK(copied.source_ids.to_vector<int32_t>() == expected.source_ids.to_vector<int32_t>());
}

}  // namespace libtrain::testing
