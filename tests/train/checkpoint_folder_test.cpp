/// Folders of checkpoints: which are kept, which is found, and what becomes of damaged ones.
#include <cmath>
#include <filesystem>
#include <fstream>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/checkpoint.h"
#include "libtrain/io/checkpoint_folder.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::slurp;
using test::TemporaryFile;
namespace fs = std::filesystem;

}  // namespace

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

TEST_CASE("checkpoint: what cannot be examined is an IoError, after which training may go on", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters parameters;
  parameters.add("w", {3}, init::constant(1));
  const std::string path = checkpoint_path(place.folder(), 1), manifest = path + "/manifest.json";
  fs::create_directory(path);
  fs::create_symlink("manifest.json", manifest);  // to itself
  CHECK(message_of<IoError>([&] {
          save_checkpoint(place.folder(), parameters, {.steps = 1});
        }).starts_with("[" + manifest + "] cannot examine: "));
  save_checkpoint(place.folder(), parameters, {.steps = 2});
}

TEST_CASE("checkpoint: the weights are read without the optimizer's file, and no moments are made", "[checkpoint]") {
  const TemporaryFile place("");
  Parameters trained({.average = true});
  trained.add("w", {3}, init::constant(2));
  trained.keep_moments(2);
  trained.average().fill(7);
  const std::string path = save_checkpoint(place.folder(), trained, {.steps = 5}, R"({"a": 1})", {.score = 0.5});
  fs::remove(path + "/optimizer.safetensors");
  Parameters used({.average = true});
  const Tensor w = used.add("w", {3}, init::constant(1));
  CHECK_THROWS_AS(load_checkpoint(path, used), CheckpointError);
  CHECK(w.to_vector<float>() == std::vector<float>(3, 1));
  const Checkpoint read = load_checkpoint_weights(path, used);
  CHECK(read.state.steps == 5);
  CHECK(read.program == R"({"a":1})");
  CHECK(w.to_vector<float>() == std::vector<float>(3, 2));
  CHECK(used.slice(used.average(), used.slots()[0]).to_vector<float>() == std::vector<float>(3, 2));
  CHECK(used.moments() == 0);
  Parameters other;
  other.add("v", {3}, init::constant(1));
  CHECK(message_of<CheckpointError>([&] { load_checkpoint_weights(path, other); }).find("v") != std::string::npos);
  const std::string weights = path + "/weights.safetensors";
  std::fstream(weights, std::ios::in | std::ios::out).seekp(-1, std::ios::end).put('x');
  CHECK(message_of<CheckpointError>([&] {
          load_checkpoint_weights(path, used);
        }).starts_with("[" + weights + "] is damaged in 1 tensors, the first w"));
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

}  // namespace libtrain::testing
