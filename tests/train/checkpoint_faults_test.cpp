#include <cstring>
#include <filesystem>

#include "catch.h"
#include "data/temporary_file.h"
#include "io/faulty_files.h"
#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/safetensors.h"
#include "run_in_place.h"

namespace libtrain::testing {
namespace {

using test::FaultyFiles;
using test::message_of;
using test::TemporaryFile;
namespace fs = std::filesystem;

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory()) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

/// A run that saves after the 2nd and, through files that may fail, after the 5th, keeping one.
struct Scene : RunInPlace {
  FaultyFiles files{place.folder()};

  Scene() {
    advance(2);
    save();
    advance(5);
  }
  std::string save() {
    return save_checkpoint(place.folder(), run.parameters, run.loop.state(), R"({"n": 1})",
                           {.keep = 1, .files = files});
  }
  /// The step of the newest checkpoint, which loads.
  int64_t newest() const {
    ToyRun fresh(pairs, kOptions, 0.2f);
    const auto state = load_checkpoint(newest_checkpoint(place.folder(), {}), fresh.parameters).state;
    if (state.steps == run.loop.state().steps) CHECK(fresh.weights() == run.weights());
    return state.steps;
  }
};

const std::vector<std::string> kSaving{"make step-00000005.tmp",
                                       "create step-00000005.tmp/weights.safetensors",
                                       "write step-00000005.tmp/weights.safetensors",
                                       "sync step-00000005.tmp/weights.safetensors",
                                       "close step-00000005.tmp/weights.safetensors",
                                       "create step-00000005.tmp/optimizer.safetensors",
                                       "write step-00000005.tmp/optimizer.safetensors",
                                       "sync step-00000005.tmp/optimizer.safetensors",
                                       "close step-00000005.tmp/optimizer.safetensors",
                                       "create step-00000005.tmp/manifest.json",
                                       "write step-00000005.tmp/manifest.json",
                                       "sync step-00000005.tmp/manifest.json",
                                       "close step-00000005.tmp/manifest.json",
                                       "sync step-00000005.tmp",
                                       "rename step-00000005.tmp to step-00000005",
                                       "sync .",
                                       "create latest.tmp",
                                       "write latest.tmp",
                                       "sync latest.tmp",
                                       "close latest.tmp",
                                       "rename latest.tmp to latest",
                                       "sync .",
                                       "remove step-00000002/manifest.json",
                                       "remove step-00000002/optimizer.safetensors",
                                       "remove step-00000002/weights.safetensors",
                                       "remove step-00000002"};
constexpr int kRename = 14;

}  // namespace

TEST_CASE("checkpoint: everything is flushed before the name is given, and old ones go last", "[checkpoint]") {
  Scene scene;
  scene.files.fail_at(-1);
  scene.save();
  CHECK(scene.files.record == kSaving);
  scene.files.fail_at(-1);
  scene.save();  // again: it is there
  CHECK(scene.files.record.empty());
}

TEST_CASE("checkpoint: any operation may fail while saving, and nothing is lost", "[checkpoint]") {
  Scene calm;
  calm.run.loop.run();
  for (const int error : {ENOSPC, EIO, EACCES})
    for (int at = 0; at < int(kSaving.size()); ++at) {
      INFO(std::strerror(error) << " at operation " << at << ": " << kSaving[size_t(at)]);
      Scene scene;
      scene.files.fail_at(at, error);
      const std::string message = message_of<IoError>([&] { scene.save(); });
      INFO(message);
      CHECK(message.find("[" + scene.place.folder()) == 0);
      CHECK(message.find(std::strerror(error)) != std::string::npos);
      CHECK(message.find("choose another") != std::string::npos);  // the remedy
      if (error == ENOSPC) CHECK(message.find(" free: make room") != std::string::npos);

      CHECK(scene.newest() == (at <= kRename ? 2 : 5));
      for (const std::string& name : names_in(scene.place.folder())) CHECK(name.find("tmp") == std::string::npos);

      scene.files.fail_at(-1);
      scene.advance(6);
      scene.save();
      CHECK(names_in(scene.place.folder()) == std::vector<std::string>{"step-00000006"});
      CHECK(scene.newest() == 6);
      scene.run.loop.run();
      CHECK(scene.run.weights() == calm.run.weights());
    }
}

TEST_CASE("checkpoint: a full disk is told with the bytes to write", "[checkpoint]") {
  Scene scene;
  scene.files.fail_at(2, ENOSPC);
  const std::string message = message_of<IoError>([&] { scene.save(); });
  scene.files.fail_at(-1);
  const auto bytes = fs::file_size(scene.save() + "/weights.safetensors");
  CHECK(message.find(format_message("No space left on device; {} bytes to write, ", bytes)) != std::string::npos);
}

TEST_CASE("checkpoint: the one just written is never removed, whatever else is there", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  for (const int64_t steps : {10, 20, 30}) save_checkpoint(place.folder(), parameters, {.steps = steps});
  const std::string path = save_checkpoint(place.folder(), parameters, {.steps = 1}, "{}", {.keep = 2});
  CHECK(read_checkpoint(path).state.steps == 1);
  CHECK(names_in(place.folder()) == std::vector<std::string>{"step-00000001", "step-00000020", "step-00000030"});
}

TEST_CASE("checkpoint: another one in the same place is an error, and stays", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  const Tensor weight = parameters.add("w", {3}, init::constant(1));
  const std::string path = save_checkpoint(place.folder(), parameters, {.steps = 1}, R"({"epochs": 3})");
  CHECK(save_checkpoint(place.folder(), parameters, {.steps = 1}) == path);  // the same run
  weight.fill(2);
  CHECK(message_of<CheckpointError>([&] { save_checkpoint(place.folder(), parameters, {.steps = 1}); }) ==
        "[" + path + "] is another checkpoint of the same step; move it away, or save to another folder");
  load_checkpoint(path, parameters);
  CHECK(weight.to_vector<float>()[0] == 1);
  CHECK(message_of<InvalidArgument>([&] { save_checkpoint(place.folder(), parameters, {}, "{}", {.keep = -1}); }) ==
        "[save_checkpoint] keep must be >= 0 (0: all), got -1");
}

TEST_CASE("checkpoint: saved once more at the same step, it has what the program said last, and keeps its score",
          "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  FaultyFiles files(place.folder());
  const auto save = [&](const std::string& program, std::optional<double> score) {
    const Checkpoint saved = verify_checkpoint(
        save_checkpoint(place.folder(), parameters, {.steps = 1}, program, {.score = score, .files = files}));
    return std::pair(saved.program, saved.score);
  };
  using Said = std::pair<std::string, std::optional<double>>;
  CHECK(save(R"({"epochs":3})", std::nullopt) == Said(R"({"epochs":3})", std::nullopt));
  CHECK(save(R"({"epochs":3})", 2.5) == Said(R"({"epochs":3})", 2.5));
  CHECK(save(R"({"epochs":4})", std::nullopt) == Said(R"({"epochs":4})", 2.5));
  CHECK(save(R"({"epochs":4})", NAN) == Said(R"({"epochs":4})", 2.5));
  const fs::directory_iterator entries(checkpoint_path(place.folder(), 1));
  CHECK(std::distance(begin(entries), end(entries)) == std::ssize(kCheckpointFiles));
  files.fail_at(0);
  CHECK(save(R"({"epochs":4})", 2.5) == Said(R"({"epochs":4})", 2.5));  // nothing is written
  CHECK_THROWS_AS(save(R"({"epochs":5})", 1.5), IoError);
  const Checkpoint left = verify_checkpoint(checkpoint_path(place.folder(), 1));
  CHECK(std::pair(left.program, left.score) == Said(R"({"epochs":4})", 2.5));
}

TEST_CASE("checkpoint: tensors with more dimensions than the library has are listed like others", "[checkpoint]") {
  const TemporaryFile place("");
  const std::vector<float> value{1};
  const auto bytes = write_safetensors(
      std::vector<TensorEntry>{{"w", "F32", {1, 1, 1, 1, 1, 1, 1, 1}, std::as_bytes(std::span(value))}});
  write_file(real_file_system(), place.folder() + "/w.safetensors", bytes);
  Parameters parameters;
  parameters.add("w", {1}, init::constant(1));
  CHECK(message_of<CheckpointError>([&] {
          load_weights(place.folder() + "/w.safetensors", parameters);
        }).find("w is F32[1, 1, 1, 1, 1, 1, 1, 1], expected F32[1]") != std::string::npos);
}

}  // namespace libtrain::testing
