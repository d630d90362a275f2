/// What one checkpoint keeps, and that it is refused where it is damaged or does not fit. Resuming: checkpoint_resume_test.cpp.
#include "libtrain/checkpoint.h"

#include <cmath>
#include <filesystem>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/seal.h"
#include "libtrain/ops/sum.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::slurp;
using test::spill;
using test::TemporaryFile;
namespace fs = std::filesystem;

}  // namespace

TEST_CASE("checkpoint: infinite totals survive", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  const std::string path = save_checkpoint(place.folder(), parameters, {.steps = 1, .epoch_loss_sum = -INFINITY});
  CHECK(read_checkpoint(path).state.epoch_loss_sum == -INFINITY);
}

TEST_CASE("checkpoint: between mini-batches of an update, what none has reached yet is saved as zero", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters, read;
  for (Parameters* store : {&parameters, &read}) {
    store->add("reached", {2}, init::constant(1));
    store->add("not yet", {3}, init::constant(1));
  }
  read.gradients().fill(4);
  const Tensor reached = parameters.slots()[0].value;
  parameters.gradients().fill(7);  // what an update has left
  parameters.clear_gradients();
  Tape tape;
  tape.backward(sum(reached));
  load_checkpoint(save_checkpoint(place.folder(), parameters, {.batch = 1, .steps = 1, .accumulated = 1}), read);
  const auto saved = read.gradients().to_vector<float>();
  CHECK(saved[size_t(read.slots()[0].offset) + 1] == 1);
  CHECK(saved[size_t(read.slots()[1].offset) + 2] == 0);
  // Behind an update there is nothing to keep: gradients stay whatever they are.
  parameters.gradients().fill(7);
  parameters.clear_gradients();
  save_checkpoint(place.folder(), parameters, {.batch = 2, .steps = 2});
  CHECK(parameters.gradients().to_vector<float>()[0] == 7);
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

TEST_CASE("checkpoint: a state in which no loop can be is not saved", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {2}, init::constant(1));
  for (const TrainState& state :
       {TrainState{.epoch = 1, .batch = 5}, TrainState{.batch = 1, .steps = 2, .accumulated = 2},
        TrainState{.epoch = -1}, TrainState{.epoch_targets = -1}}) {
    CHECK(message_of<InvalidArgument>([&] {
            save_checkpoint(place.folder() + "/run", parameters, state);
          }).find("[save_checkpoint] no loop is at epoch") == 0);
    CHECK_FALSE(std::filesystem::exists(place.folder() + "/run"));
  }
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
  const auto below_coder = message_of<CheckpointError>([&] { load_weights(file, part, "coder."); });
  CHECK(below_coder.find("missing coder.w F64[2, 2]") != std::string::npos);
  CHECK(below_coder.ends_with("; build the model with the options it was saved with"));  // nothing there to take over
  load_weights(file, part, "decoder.");
  CHECK(w.to_vector<double>() == std::vector<double>(4, 0.75));
  Parameters averaged({.average = true});
  averaged.add("w", {2, 2}, init::constant(1));
  save_weights(file, f32);
  load_weights(file, averaged);
  CHECK(averaged.average().to_vector<float>()[3] == 0.5f);  // it begins as what was loaded
  CHECK(message_of<CheckpointError>([&] { load_weights(place.folder() + "/none", f32); }).find("is missing") !=
        std::string::npos);
  spill(file, "not a safetensors file at all");
  CHECK(message_of<CheckpointError>([&] { load_weights(file, f32); }).find("header length") != std::string::npos);
}

}  // namespace libtrain::testing
