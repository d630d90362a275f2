/// Nothing that is not finite reaches a weight: whatever value of a step is made so, the update changes nothing, and what made it is named.
#include "libtrain/nonfinite.h"

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/io/checkpoint_folder.h"
#include "train/injection.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::TemporaryFile;

const ParametersOptions kStore{.seed = 5, .average = true};

/// Steps with an injection, in a folder of checkpoints.
struct RewindingRun : ToyRun {
  static TrainOptions options(const TrainOptions& base, const std::string& folder, RewindingRun& run) {
    TrainOptions all = base;
    all.rewind = [&run, folder](const NonFiniteReport&) {
      if (complete_checkpoints(folder).empty()) return false;
      load_checkpoint(newest_checkpoint(folder, {}), run.parameters);
      return true;
    };
    return all;
  }

  RewindingRun(std::span<const Pair> pairs, const TrainOptions& base, const std::string& folder)
      : ToyRun(pairs, options(base, folder, *this), 0.2f, kStore) {
    loop.on_checkpoint([this, folder](const TrainState& state) { save_checkpoint(folder, parameters, state); });
    loop.on_nonfinite([this](const NonFiniteReport& report) { reports.push_back(report); });
    if (!complete_checkpoints(folder).empty())
      loop.restore(load_checkpoint(newest_checkpoint(folder, {}), parameters).state);
  }
  std::vector<NonFiniteReport> reports;
};

/// The first operation of that name in a step of the toy.
InjectionPoint point_of(const std::string& operation, bool backward) {
  for (const InjectionPoint& point : InjectedRun::points(kStore, 0.1f))
    if (point.operation == operation && point.backward == backward) return point;
  throw Error("no " + operation);
}

}  // namespace

TEST_CASE("nonfinite: NaN and infinities are counted, in every dtype and wherever they stand", "[nonfinite]") {
  check_counting(Device::kCpu, 0, {1, 31, 4097, 100'003});
  CHECK_FALSE(count_nonfinite(Tensor::full({3}, 7, DType::i32)));
  CHECK_FALSE(count_nonfinite(Tensor::full({3}, 3e38)));
}

TEST_CASE("nonfinite: any value of a step, forward or backward, is kept from the weights, and its operation is named",
          "[nonfinite]") {
  for (const Extent extent : {Extent::kMiddleElement, Extent::kWhole}) {
    const auto points = InjectedRun::points(kStore, extent == Extent::kWhole ? 0.1f : 0);
    CHECK(points.size() > 60);
    CHECK(std::ranges::count(points, true, &InjectionPoint::backward) > 40);
    for (const InjectionPoint& point : points)
      for (const double value : extent == Extent::kWhole ? std::span(kNotFinite).first(1) : std::span(kNotFinite)) {
        INFO(point.str() << " = " << value);
        CHECK(fault_after(point, value, kStore, extent) == "");
      }
  }
}

TEST_CASE("nonfinite: the check would notice an optimizer that updates all the same", "[nonfinite]") {
  const Optimizer careless{1e-3, [](const Parameters& parameters) {
                             StepState state = parameters.step();
                             state.skip = StepState::kUpdates;
                             parameters.set_step(state);
                             adam_update(parameters, {});
                           }};
  const auto points = InjectedRun::points(kStore, 0.1f);
  for (const size_t i : {size_t(0), points.size() / 2, points.size() - 1}) {
    INFO(points[i].str());
    CHECK(fault_after(points[i], kNotFinite[0], kStore, Extent::kWhole, careless)
              .starts_with("weights, moments or average changed"));
  }
}

TEST_CASE("nonfinite: what is infinite is not made finite by clipping values", "[nonfinite]") {
  const auto pairs = reversal_pairs(8);
  ToyRun run(pairs, {.epochs = 1, .clip_value = 0.1}, 0, kStore);
  const auto before = trained_state(run.parameters);
  run.loop.on_update([](const Parameters& parameters) { parameters.gradients().rows(0, 1).fill(kNotFinite[1]); });
  std::string told;
  run.loop.on_nonfinite([&](const NonFiniteReport& report) { told = report.str(); });
  run.loop.run();
  CHECK(same_bits(before, trained_state(run.parameters)));
  CHECK(told.find("all is finite when its mini-batches are repeated") != std::string::npos);
}

TEST_CASE("nonfinite: a limit in a row, then Diverged with operation, parameter and remedy, and training may go on",
          "[nonfinite]") {
  const auto pairs = reversal_pairs(64);
  ToyRun run(pairs, {.epochs = 3, .accumulate = 2, .nonfinite_limit = 3}, 0.1f, kStore);
  std::optional<Injection> injection;
  injection.emplace(run.parameters, point_of("linear", false), kNotFinite[0],
                    [](uint64_t step) { return step == 2 || step >= 7; });
  std::vector<int64_t> in_a_row, updates;
  run.loop.on_nonfinite([&](const NonFiniteReport& report) {
    in_a_row.push_back(report.in_a_row);
    updates.push_back(report.update);
    CHECK(report.batches == 2);
  });
  const std::string message = message_of<Diverged>([&] { run.loop.run(); });
  INFO(message);
  CHECK(in_a_row == std::vector<int64_t>{1, 1, 2, 3});
  CHECK(updates == std::vector<int64_t>{2, 4, 5, 6});  // 8 mini-batches an epoch
  CHECK(message.find("update 6 is not finite and changed nothing (epoch 1, mini-batch 2 to 3, ") != std::string::npos);
  CHECK(message.find("linear (operation ") != std::string::npos);
  CHECK(message.find("its parameter is ") != std::string::npos);
  CHECK(message.find("It is number 3 in a row") != std::string::npos);
  CHECK(message.find("Lower the learning rate") != std::string::npos);
  CHECK(run.parameters.step().updates == 2);
  injection.reset();
  CHECK(run.loop.run());
  CHECK(run.parameters.step().updates == 8);
  CHECK(run.parameters.step().skipped_updates == 4);
}

TEST_CASE("nonfinite: a skipped update leaves what a run without its mini-batches has", "[nonfinite]") {
  const auto pairs = reversal_pairs(40);
  const TrainOptions options{.epochs = 2, .clip_norm = 1, .average_decay = 0.9};
  ToyRun skips(pairs, options, 0.1f, kStore), frozen(pairs, options, 0.1f, kStore);
  double epoch_loss = 0;
  {
    const Injection injection(skips.parameters, point_of("layer_norm", true), kNotFinite[1],
                              [](uint64_t step) { return step == 3; });
    skips.loop.on_epoch([&](const EpochReport& report) { epoch_loss = report.loss; });
    skips.loop.run();
  }
  CHECK(std::isfinite(epoch_loss));
  std::vector<float> kept;
  while (frozen.loop.state().steps < 3) frozen.loop.step();
  TrainState behind = frozen.loop.state();
  ++behind.batch, ++behind.steps, ++behind.updates;
  frozen.loop.restore(behind);
  frozen.loop.run();
  CHECK(same_bits(trained_state(skips.parameters), trained_state(frozen.parameters)));
}

TEST_CASE("nonfinite: rewinding takes the weights of the checkpoint and the mini-batches that follow", "[nonfinite]") {
  const auto pairs = reversal_pairs(40);  // 5 mini-batches an epoch
  const TemporaryFile place("");
  RewindingRun run(pairs, {.epochs = 3, .checkpoint_every = 4}, place.folder());
  const Injection injection(run.parameters, point_of("linear", true), kNotFinite[0],
                            [](uint64_t step) { return step == 1 || step == 6; });
  std::vector<float> saved;
  run.loop.on_checkpoint([&](const TrainState& state) {
    if (state.updates == 4) saved = trained_state(run.parameters);
  });
  while (run.loop.state().steps < 7) run.loop.step();
  REQUIRE(run.reports.size() == 2);
  CHECK_FALSE(run.reports[0].rewound);  // nothing was saved yet
  CHECK(run.reports[1].rewound);
  CHECK(same_bits(trained_state(run.parameters), saved));
  CHECK(run.parameters.step().updates == 3);
  CHECK(run.parameters.step().skipped_updates == 2);
  CHECK(run.loop.state().batch == 2);
  CHECK(run.loop.run());
  CHECK(run.loop.state().steps == 15);
  CHECK(run.parameters.step().updates == 3 + 8);
  CHECK_FALSE(same_bits(trained_state(run.parameters), saved));
}

TEST_CASE("nonfinite: a run that rewinds, killed after any step, ends with the same bits", "[nonfinite]") {
  const auto pairs = reversal_pairs(40);
  const TrainOptions options{.epochs = 3, .accumulate = 2, .schedule = linear_schedule(2, 9), .checkpoint_every = 2};
  const InjectionPoint point = point_of("self_attention", true);
  const auto bad = [](uint64_t step) { return step == 7 || step == 12; };
  const auto finish = [&](const std::string& folder) {
    RewindingRun run(pairs, options, folder);
    const Injection injection(run.parameters, point, kNotFinite[1], bad);
    CHECK(run.loop.run());
    return trained_state(run.parameters);
  };
  const TemporaryFile undisturbed("");
  const auto expected = finish(undisturbed.folder());
  for (int64_t killed = 1; killed < 15; ++killed) {
    INFO("killed after step " << killed);
    const TemporaryFile place("");
    {
      RewindingRun run(pairs, options, place.folder());
      const Injection injection(run.parameters, point, kNotFinite[1], bad);
      while (run.loop.state().steps < killed) run.loop.step();
    }
    CHECK(same_bits(finish(place.folder()), expected));
  }
}

TEST_CASE("nonfinite: rewinding again and again ends at the limit", "[nonfinite]") {
  const auto pairs = reversal_pairs(80);
  const TemporaryFile place("");
  RewindingRun run(pairs, {.epochs = 9, .checkpoint_every = 5, .nonfinite_limit = 4}, place.folder());
  const Injection injection(run.parameters, point_of("linear", false), kNotFinite[2],
                            [](uint64_t step) { return step > 6; });
  CHECK_THROWS_AS(run.loop.run(), Diverged);
  REQUIRE(run.reports.size() == 4);
  CHECK(run.reports[2].rewound);
  CHECK(run.reports[3].in_a_row == 4);
}

TEST_CASE("nonfinite: a throw while the cause is looked for is told, and changes nothing", "[nonfinite]") {
  const auto pairs = reversal_pairs(40);
  const auto train = [&](bool throws) {
    Parameters parameters(kStore);
    const Transformer model(parameters, toy_options());
    BucketedBatches batches(pairs, {.pairs = 8});
    int runs_of_second = 0;
    TrainLoop loop(parameters, batches,
                   [&](const Batch& batch) {
                     if (parameters.random().step == 1 && ++runs_of_second == 2 && throws) throw DataError("gone");
                     return model.loss(batch);
                   },
                   {.epochs = 2});
    const Injection injection(parameters, point_of("linear", false), kNotFinite[0],
                              [](uint64_t step) { return step == 1; });
    std::string failure;
    loop.on_nonfinite([&](const NonFiniteReport& report) { failure = report.failure; });
    CHECK(loop.run());
    CHECK(failure == (throws ? "gone" : ""));
    return trained_state(parameters);
  };
  CHECK(same_bits(train(true), train(false)));
}

TEST_CASE("nonfinite: DetectNonFinite throws at the first operation, forward and backward", "[nonfinite]") {
  Parameters parameters;
  const Tensor w = parameters.add("w", {3}, init::constant(0));
  const DetectNonFinite detect(parameters);
  CHECK(message_of<Diverged>([&] {
          const Tape tape;
          log(w);
        }) ==
        "[detect_nonfinite] log (operation 0 of the step, forward) made output 0, f32[3], 0 NaN, 3 infinite; its "
        "parameter is w");
  CHECK(message_of<Diverged>([&] {
          Tape tape;
          tape.backward(sum(sqrt(w)));
        }) ==
        "[detect_nonfinite] sqrt (operation 0 of the step, backward) made gradient of input 0, f32[3], 0 NaN, 3 "
        "infinite; its parameter is w");
  parameters.clear_gradients();
  parameters.values().rows(1, 2).fill(kNotFinite[0]);
  const std::string message = message_of<Diverged>([&] {
    const Tape tape;
    scale(w, 2);
  });
  CHECK(message.find("it was given them: input 0, f32[3], has 1 NaN, 0 infinite") != std::string::npos);
}

}  // namespace libtrain::testing
