#include "libtrain/checkpoint.h"

#include <filesystem>
#include <fstream>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/seal.h"
#include "toy.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::TemporaryFile;
namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void spill(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

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

TEST_CASE("checkpoint: what the program adds comes back, old ones go, and the newest is found", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  const std::string folder = place.folder() + "/deep/run";
  for (const int64_t steps : {1, 2, 30, 4})
    save_checkpoint(folder, parameters, {.steps = steps}, R"({"vocabulary": ["ə", "한"], "size": 3})", {.keep = 3});
  CHECK(newest_checkpoint(folder, {}) == folder + "/step-00000030");
  CHECK_FALSE(fs::exists(folder + "/step-00000001"));
  CHECK(fs::exists(folder + "/step-00000002"));
  CHECK(read_checkpoint(newest_checkpoint(folder, {})).program == R"({"vocabulary":["ə","한"],"size":3})");
  fs::create_directory(folder + "/step-00000099");  // a stranger's, or one whose writing was cut short
  CHECK(newest_checkpoint(folder, {}) == folder + "/step-00000030");
  for (const auto& entry : fs::directory_iterator(folder))
    CHECK(entry.path().filename().string().find("tmp") == std::string::npos);
  CHECK_THROWS_AS(save_checkpoint(folder, parameters, {}, "[1]"), InvalidArgument);
  CHECK(message_of<CheckpointError>([&] {
          newest_checkpoint(place.folder(), {});
        }).find("holds no complete checkpoint") != std::string::npos);
}

TEST_CASE("checkpoint: infinite totals survive", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  const std::string path = save_checkpoint(place.folder(), parameters, {.steps = 1, .epoch_loss_sum = -INFINITY});
  CHECK(read_checkpoint(path).state.epoch_loss_sum == -INFINITY);
}

TEST_CASE("checkpoint: whatever is damaged or does not fit is refused by name, and changes nothing", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  const Tensor weight = parameters.add("layer.weight", {3, 2}, init::constant(1));
  const std::string path = save_checkpoint(place.folder(), parameters, {.steps = 7});
  const auto refusal = [&](const Parameters& into) {
    return message_of<CheckpointError>([&] { load_checkpoint(path, into); });
  };
  weight.fill(5);

  SECTION("another model") {
    Parameters other;
    const Tensor kept = other.add("layer.weight", {3, 3}, init::constant(2));
    other.add("layer.bias", {3}, init::constant(2));
    const std::string message = refusal(other);
    CHECK(message.find("2 differences") != std::string::npos);
    CHECK(message.find("missing layer.bias F32[3]") != std::string::npos);
    CHECK(message.find("layer.weight is F32[3, 2], expected F32[3, 3]") != std::string::npos);
    CHECK(kept.to_vector<float>()[0] == 2);
    Parameters fewer;
    CHECK(refusal(fewer).find("unexpected layer.weight F32[3, 2]") != std::string::npos);
  }
  SECTION("every bit of every file, changed: found, and the one before is gone back to") {
    const std::string older = save_checkpoint(place.folder(), parameters, {.steps = 6});
    for (const char* name : kCheckpointFiles) {
      const std::string bytes = slurp(path + "/" + name);
      for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
        std::string damaged = bytes;
        damaged[bit / 8] = char(damaged[bit / 8] ^ (1 << bit % 8));
        spill(path + "/" + name, damaged);
        REQUIRE(message_of<CheckpointError>([&] { verify_checkpoint(path); }).find("[" + path + "/" + name + "] ") ==
                0);
        if (bit % 997) continue;
        std::string warning;
        REQUIRE(newest_checkpoint(place.folder(), [&](const std::string& reason) { warning = reason; }) == older);
        REQUIRE(warning.find("[" + path + "/" + name + "] ") == 0);
      }
      spill(path + "/" + name, bytes);
    }
    std::string warning;
    CHECK(newest_checkpoint(place.folder(), [&](const std::string& reason) { warning = reason; }) == path);
    CHECK(warning.empty());
    std::string damaged = slurp(path + "/weights.safetensors");
    damaged.back() = char(damaged.back() ^ 1);
    spill(path + "/weights.safetensors", damaged);
    CHECK(refusal(parameters).find("is damaged in 1 tensors, the first layer.weight: its hash") != std::string::npos);
    CHECK(weight.to_vector<float>()[0] == 5);
  }
  SECTION("a file cut short, and one that is gone") {
    const std::string bytes = slurp(path + "/weights.safetensors");
    spill(path + "/weights.safetensors", bytes.substr(0, bytes.size() - 3));
    CHECK(refusal(parameters)
              .find(format_message("has {} bytes, the manifest says {}", bytes.size() - 3, bytes.size())) !=
          std::string::npos);
    fs::remove(path + "/weights.safetensors");
    CHECK(refusal(parameters).find("is missing; the checkpoint is incomplete") != std::string::npos);
  }
  SECTION("a manifest that is none") {
    const std::string text = slurp(path + "/manifest.json");
    const auto with = [&](const std::string& from, const std::string& to) {
      std::string changed = text;
      REQUIRE(changed.find(from) != std::string::npos);
      changed.replace(changed.find(from), from.size(), to);
      spill(path + "/manifest.json", sealed(changed.substr(0, changed.rfind(",\n \"xxh3_128\"")) + "\n}"));
      return refusal(parameters);
    };
    CHECK(with("{", "[").find("manifest: no JSON (byte ") != std::string::npos);
    CHECK(with("{", "{\"version\": 1, ").find("manifest: key \"version\" occurs twice") != std::string::npos);
    CHECK(with("\"program\": {}", "\"program\": {\"a\": " + std::string(100000, '[') + std::string(100000, ']') + "}")
              .find("manifest: nested deeper than 32 levels") != std::string::npos);
    CHECK(with("libtrain checkpoint", "something else").find("field 'format'") != std::string::npos);
    CHECK(with("\"version\": 4", "\"version\": 5").find("written by another version") != std::string::npos);
    CHECK(with("\"steps\": 7", "\"steps\": -7")
              .find("field 'state/steps': expected a whole number from 0 to 2^53, got -7") != std::string::npos);
    CHECK(with("\"steps\": 7", "\"stops\": 7").find("field 'state/steps': expected it to be there") !=
          std::string::npos);
    CHECK(with("\"steps\": 7", "\"steps\": 18446744073709551615").find("got 18446744073709551615") !=
          std::string::npos);
    CHECK(with("\"accumulated\": 0", "\"accumulated\": 8")
              .find("expected accumulated <= batch <= steps, got 8, 0 and 7") != std::string::npos);
    CHECK(with("\"seed\": ", "\"seed\": -").find("field 'random/seed': expected a whole number from 0 to 2^64 - 1") !=
          std::string::npos);
    CHECK(with("\"bytes\": ", "\"bytes\": 1").find("the manifest says 1") != std::string::npos);
    CHECK(with("0x0p+0", "soon").find("field 'state/epoch_loss_sum'") != std::string::npos);
    fs::remove(path + "/manifest.json");
    CHECK(refusal(parameters).find("is no checkpoint") != std::string::npos);
  }
  weight.fill(1);
}

TEST_CASE("checkpoint: the one with the lowest score stays beside the newest", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  const std::vector<std::optional<double>> scores{3.0, 1.5, NAN, std::nullopt, 1.5, 2.0};
  for (size_t i = 0; i < scores.size(); ++i)
    save_checkpoint(place.folder(), parameters, {.steps = int64_t(i)}, "{}", {.keep = 2, .score = scores[i]});
  const auto all = complete_checkpoints(place.folder());
  CHECK(all == std::vector<std::string>{checkpoint_path(place.folder(), 1), checkpoint_path(place.folder(), 4),
                                        checkpoint_path(place.folder(), 5)});
  CHECK(read_checkpoint(all[0]).score == 1.5);
  CHECK(slurp(place.folder() + "/latest") == "step-00000005\n");
}

TEST_CASE("checkpoint: when all are damaged, each is named", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  for (const int64_t steps : {1, 2})
    fs::resize_file(save_checkpoint(place.folder(), parameters, {.steps = steps}) + "/weights.safetensors", 9);
  const std::string message = message_of<CheckpointError>([&] { newest_checkpoint(place.folder(), {}); });
  CHECK(message.find("none of the 2 checkpoints can be loaded; bring one back from a copy, or start a new run:\n  [" +
                     checkpoint_path(place.folder(), 2)) != std::string::npos);
  CHECK(message.find("\n  [" + checkpoint_path(place.folder(), 1)) != std::string::npos);
}

TEST_CASE("checkpoint: a damaged one of the same step is kept under another name", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  for (int time = 0; time < 3; ++time)
    fs::resize_file(save_checkpoint(place.folder(), parameters, {.steps = 1}) + "/weights.safetensors", 9);
  fs::remove(checkpoint_path(place.folder(), 1) + "/manifest.json");  // as a removal that was cut short leaves it
  CHECK(verify_checkpoint(save_checkpoint(place.folder(), parameters, {.steps = 1})).state.steps == 1);
  for (const int number : {1, 2, 3})
    CHECK(fs::file_size(
              format_message("{}.damaged-{}/weights.safetensors", checkpoint_path(place.folder(), 1), number)) == 9);
}

TEST_CASE("checkpoint: any random state comes back, all 128 bits of it", "[checkpoint]") {
  const TemporaryFile file("");
  Parameters parameters, loaded;
  for (Parameters* each : {&parameters, &loaded}) each->add("w", {3}, init::constant(1));
  const RandomState state{~uint64_t(0) - 1, (uint64_t(1) << 63) + 5};
  parameters.set_random(state);
  load_checkpoint(save_checkpoint(file.folder() + "/run", parameters, {}), loaded);
  CHECK(loaded.random().seed == state.seed);
  CHECK(loaded.random().step == state.step);
}

TEST_CASE("checkpoint: a folder that cannot be made is an IoError with path and reason", "[checkpoint]") {
  const TemporaryFile file("x");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  const std::string message = message_of<IoError>([&] { save_checkpoint(file.path() + "/run", parameters, {}); });
  CHECK(message.find(file.path()) != std::string::npos);
  CHECK(message.find("File exists; something else has that name: move it away or choose another place") !=
        std::string::npos);
}

TEST_CASE("weights: alone, in a file that another dtype can read", "[checkpoint]") {
  const TemporaryFile place("");
  const std::string file = place.folder() + "/w.safetensors";
  Parameters f32, f64({.dtype = DType::f64});
  for (Parameters* parameters : {&f32, &f64})
    parameters->add("w", {2, 2}, init::constant(parameters == &f32 ? 0.5 : 1));
  save_weights(file, f32);
  load_weights(file, f64);
  CHECK(f64.get("w").to_vector<double>() == std::vector<double>(4, 0.5));
  Parameters many, part({.dtype = DType::f64});
  many.add("encoder.w", {2, 2}, init::constant(0.25));
  many.add("decoder.w", {2, 2}, init::constant(0.75));
  const Tensor w = part.add("w", {2, 2}, init::constant(1));
  save_weights(file, many);
  CHECK_THROWS_AS(load_weights(file, part), CheckpointError);
  CHECK(message_of<CheckpointError>([&] { load_weights(file, part, "coder."); }).find("missing coder.w F64[2, 2]") !=
        std::string::npos);
  load_weights(file, part, "decoder.");
  CHECK(w.to_vector<double>() == std::vector<double>(4, 0.75));
  CHECK(message_of<CheckpointError>([&] { load_weights(place.folder() + "/none", f32); }).find("is missing") !=
        std::string::npos);
  spill(file, "not a safetensors file at all");
  CHECK(message_of<CheckpointError>([&] { load_weights(file, f32); }).find("header length") != std::string::npos);
}

}  // namespace libtrain::testing
