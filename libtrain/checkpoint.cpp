#include "libtrain/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/hash.h"
#include "libtrain/io/json.h"
#include "libtrain/io/manifest.h"
#include "libtrain/io/seal.h"
#include "libtrain/optimizer_state.h"
#include "libtrain/tensor_file.h"

namespace libtrain {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// ---- The manifest -------------------------------------------------------------------------------------------------------

Json to_json(const TrainState& state) {
  return {{"epoch", state.epoch},
          {"batch", state.batch},
          {"steps", state.steps},
          {"updates", state.updates},
          {"accumulated", state.accumulated},
          {"epoch_loss_sum", exact_text(state.epoch_loss_sum)},
          {"epoch_targets", state.epoch_targets}};
}

Checkpoint checkpoint_of(const Manifest& manifest, const std::string& path) {
  const TrainState state{manifest.count("state/epoch"),        manifest.count("state/batch"),
                         manifest.count("state/steps"),        manifest.count("state/updates"),
                         manifest.count("state/accumulated"),  manifest.exact("state/epoch_loss_sum"),
                         manifest.count("state/epoch_targets")};
  if (!state.is_possible())
    manifest.refuse("state", format_message("accumulated <= batch <= steps, got {}, {} and {}", state.accumulated,
                                            state.batch, state.steps));
  if (!manifest.at("program").is_object()) manifest.refuse("program", "an object");
  const auto score = manifest.contains("score") ? std::optional(manifest.exact("score")) : std::nullopt;
  const std::string optimizer = manifest.contains("optimizer") ? manifest.text("optimizer/name") : "";
  return {path, state, manifest.at("program").compact(), score, optimizer};
}

/// Parameters with the same factors, other than 1, and the frozen ones: what set_group() and freeze() have made.
Json groups_of(const Parameters& parameters) {
  std::vector<Json> kinds;
  Json groups = Json::array();
  for (const auto& slot : parameters.slots()) {
    const Json kind{{"rate", slot.factors.rate}, {"decay", slot.factors.decay}, {"frozen", slot.frozen}};
    if (slot.factors.rate == 1 && slot.factors.decay == 1 && !slot.frozen) continue;
    const auto known = size_t(std::ranges::find(kinds, kind) - kinds.begin());
    if (known == kinds.size()) {
      kinds.push_back(kind);
      groups.push_back(kind);
    }
    groups[known]["parameters"].push_back(slot.name);
  }
  return groups;
}

Json to_json(const OptimizerInfo& optimizer, const Parameters& parameters) {
  Json options = Json::object();
  for (const auto& [name, value] : optimizer.options) options[name] = value;
  return {{"name", optimizer.name}, {"options", options}, {"groups", groups_of(parameters)}};
}

/// Moments of one optimizer mean something else to another.
void check_optimizer(const Checkpoint& checkpoint, const Parameters& parameters) {
  const auto& now = parameters.optimizer();
  if (checkpoint.optimizer.empty() || !now || now->name == checkpoint.optimizer) return;
  throw CheckpointError(format_message(
      "[{}] holds the state of the optimizer {}, from which {} cannot go on; go on with {}, or begin with "
      "{} from its weights alone: load_weights() of its {}",
      checkpoint.path, checkpoint.optimizer, now->name, checkpoint.optimizer, now->name, kWeightsFile));
}

/// " in 2 tensors, the first w"; nothing if the file is no longer of its format.
std::string damaged_tensors(std::vector<std::byte> bytes, const std::string& path, const JsonView& hashes) {
  std::string first;
  int64_t count = 0;
  try {
    const SafetensorsFile file = SafetensorsFile::parse(std::move(bytes), path);
    hashes.members([&](const JsonView& key, const JsonView& hash) {
      const std::string name = key.text();
      if (file.contains(name) && hash.is_text(xxh3_128_hex(file.entry(name).bytes))) return;
      if (count++ == 0) first = name;
    });
  } catch (const CheckpointError&) {
  }
  return count ? format_message(" in {} tensors, the first {}", count, first) : "";
}

/// A file of the checkpoint, whose size and hash must be those of the manifest.
SafetensorsFile read_listed(const Manifest& manifest, const std::string& folder, const char* name) {
  const std::string path = folder + "/" + name;
  const size_t dot = std::string_view(name).find('.');
  const std::string field = "files/" + std::string(name).substr(0, dot);
  const int64_t expected = manifest.count(field + "/bytes");
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored))
    throw CheckpointError(
        format_message("[{}] is missing; the checkpoint is incomplete: copy it again, or use an older one", path));
  if (const auto size = int64_t(fs::file_size(path)); size != expected)
    throw CheckpointError(
        format_message("[{}] has {} bytes, the manifest says {}; copy it again", path, size, expected));
  const JsonView tensors = manifest.at(field + "/tensors");
  if (!tensors.is_object()) manifest.refuse(field + "/tensors", "an object, got " + tensors.shown());
  auto bytes = read_file(path, expected);
  if (xxh3_128_hex(bytes) != manifest.text(field + "/xxh3_128"))
    throw CheckpointError(
        format_message("[{}] is damaged{}: its hash differs from the manifest's; copy it again, or remove this "
                       "checkpoint to go on from an older one",
                       path, damaged_tensors(std::move(bytes), path, tensors)));
  return SafetensorsFile::parse(std::move(bytes), path);
}

Json file_entry(const TensorFile& tensors, std::span<const std::byte> bytes) {
  Json hashes = Json::object();
  for (const auto& [name, hash] : tensors.hashes()) hashes[name] = hash;
  return {{"bytes", bytes.size()}, {"xxh3_128", xxh3_128_hex(bytes)}, {"tensors", hashes}};
}

Manifest verified_manifest(const std::string& path) {
  Manifest manifest(path);
  for (const char* name : {kWeightsFile, kOptimizerFile}) read_listed(manifest, path, name);
  return manifest;
}

/// Gives the name free that something has which does not load: nothing is lost, and a run that went on from an older one can save.
void set_aside(FileSystem& files, const std::string& path) {
  int number = 1;
  while (fs::exists(format_message("{}.damaged-{}", path, number))) ++number;
  files.rename(path, format_message("{}.damaged-{}", path, number));
}

/// The checkpoint that is there, undamaged, of the same state and tensors as this manifest; nothing where there is none. Another one in its
/// place is an error: neither of the two may be lost.
std::optional<Manifest> saved_already(FileSystem& files, const std::string& path, const std::string& manifest) {
  std::optional<Manifest> saved;
  if (std::ranges::none_of(kCheckpointFiles, [&](const char* name) { return fs::exists(path + "/" + name); }))
    return saved;
  try {
    saved = verified_manifest(path);
  } catch (const CheckpointError&) {
    set_aside(files, path);
    return saved;
  }
  const auto differs = [&](const char* field) {
    return saved->at(field).raw() != JsonView(manifest).find(field)->raw();
  };
  if (differs("state") || differs("random") || differs("files"))
    throw CheckpointError(
        format_message("[{}] is another checkpoint of the same step; move it away, or save to another folder", path));
  return saved;
}

/// Writes the manifest over that of the checkpoint that is there, unless it says the same. A score that is not given is left as it is.
void renew(FileSystem& files, const Manifest& saved, Json manifest) {
  if (!manifest.contains("score") && saved.contains("score")) manifest["score"] = saved.text("score");
  const std::string text = sealed(manifest.dump(1));
  const auto bytes = std::as_bytes(std::span(text));
  if (!std::ranges::equal(read_file(saved.path(), int64_t(fs::file_size(saved.path()))), bytes))
    write_file_atomically(files, saved.path(), bytes);
}

/// Of those with a score, the one with the lowest; the older of equals. Empty when there is none.
std::string best_checkpoint(const std::string& folder) {
  std::string best;
  double lowest = std::numeric_limits<double>::infinity();
  for (const std::string& path : complete_checkpoints(folder)) {
    try {
      const auto score = read_checkpoint(path).score;
      if (score && *score < lowest) lowest = *score, best = path;
    } catch (const OutOfMemory&) {  // it may well be the best
      throw;
    } catch (const Error&) {  // damaged: not the best
    }
  }
  return best;
}

void name_latest(FileSystem& files, const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + kLatestFile;
  const auto bytes = std::as_bytes(std::span(name));
  std::error_code ignored;
  if (fs::file_size(path, ignored) == bytes.size() && std::ranges::equal(read_file(path, int64_t(bytes.size())), bytes))
    return;
  write_file_atomically(files, path, bytes);
}

TensorTargets weight_targets_of(const Parameters& parameters) {
  TensorTargets targets;
  for (const auto& slot : parameters.slots()) targets.add(slot.name, slot.master);
  return targets;
}

TensorFile weights_of(const Parameters& parameters) {
  TensorFile file;
  for (const auto& slot : parameters.slots()) file.add(slot.name, slot.master);
  return file;
}

/// An average of values begins anew.
void take_values(const TensorTargets& targets, const SafetensorsFile& weights, const Parameters& parameters) {
  targets.copy(weights);
  parameters.round_values();
  if (const Tensor average = parameters.average(); average.defined()) average.copy_from(parameters.values());
}

}  // namespace

std::string save_checkpoint(const std::string& folder, const Parameters& parameters, const TrainState& state,
                            const std::string& program, const SaveOptions& options) try {
  const Json program_json = Json::parse(program, nullptr, false);
  LIBTRAIN_CHECK(program_json.is_object(),
                 "[save_checkpoint] program must be a JSON object, got {}; leave it out if there is nothing to keep",
                 program.substr(0, 100));
  LIBTRAIN_CHECK(
      state.is_possible(),
      "[save_checkpoint] no loop is at epoch {}, batch {}, step {}, update {} with {} accumulated mini-batches; "
      "pass TrainLoop::state(), or count so that accumulated <= batch <= steps",
      state.epoch, state.batch, state.steps, state.updates, state.accumulated);
  parameters.check_shows_values("save_checkpoint");
  LIBTRAIN_CHECK(options.keep >= 0, "[save_checkpoint] keep must be >= 0 (0: all), got {}", options.keep);
  if (state.accumulated > 0) parameters.zero_unwritten_gradients();
  const TensorFile weights = weights_of(parameters), optimizer = optimizer_state_of(parameters, state.accumulated > 0);
  const auto weight_bytes = weights.bytes(), optimizer_bytes = optimizer.bytes();
  const RandomState random = parameters.random();
  Json manifest{
      {"format", kManifestFormat},
      {"version", kManifestVersion},
      {"libtrain", kVersion},
      {"state", to_json(state)},
      {"random", {{"seed", random.seed}, {"step", random.step}}},
      {"files",
       {{"weights", file_entry(weights, weight_bytes)}, {"optimizer", file_entry(optimizer, optimizer_bytes)}}},
      {"program", program_json}};
  if (parameters.optimizer()) manifest["optimizer"] = to_json(*parameters.optimizer(), parameters);
  if (options.score && !std::isnan(*options.score)) manifest["score"] = exact_text(*options.score);

  FileSystem& files = options.files;
  const std::string path = checkpoint_path(folder, state.steps), text = sealed(manifest.dump(1));
  if (const auto saved = saved_already(files, path, text)) {
    renew(files, *saved, std::move(manifest));
  } else {
    StagedDirectory staged(files, path);
    staged.write(kWeightsFile, weight_bytes);
    staged.write(kOptimizerFile, optimizer_bytes);
    staged.write(kManifestFile, std::as_bytes(std::span(text)));
    staged.commit();
  }
  name_latest(files, folder, fs::path(path).filename().string() + "\n");
  remove_abandoned_checkpoints(files, folder);
  if (options.keep > 0) remove_old_checkpoints(files, folder, options.keep, {path, best_checkpoint(folder)});
  return path;
} catch (const fs::filesystem_error& error) {
  throw_io_error("examine", error.path1().string(), error.code().value());
}

std::string newest_checkpoint(const std::string& folder, const PassedOver& passed_over) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    throw CheckpointError(format_message("[{}] is no folder; check the path", folder));
  const auto all = complete_checkpoints(folder);
  if (all.empty())
    throw CheckpointError(format_message("[{}] holds no complete checkpoint (step-…/{}); name the folder of a run",
                                         folder, kManifestFile));
  std::string reasons;
  for (size_t i = all.size(); i-- > 0;) {
    try {
      verify_checkpoint(all[i]);
      return all[i];
    } catch (const OutOfMemory&) {  // nothing is known of it
      throw;
    } catch (const Error& error) {
      reasons += std::string("\n  ") + error.what();
      if (i > 0 && passed_over) passed_over(error.what());
    }
  }
  throw CheckpointError(
      format_message("[{}] none of the {} checkpoints can be loaded; bring one back from a copy, or start a new run:{}",
                     folder, all.size(), reasons));
}

Checkpoint verify_checkpoint(const std::string& path) { return checkpoint_of(verified_manifest(path), path); }

Checkpoint read_checkpoint(const std::string& path) { return checkpoint_of(Manifest(path), path); }

Checkpoint load_checkpoint(const std::string& path, const Parameters& parameters) {
  parameters.check_shows_values("load_checkpoint");
  const Manifest manifest(path);
  const Checkpoint checkpoint = checkpoint_of(manifest, path);
  check_optimizer(checkpoint, parameters);
  const SafetensorsFile weights = read_listed(manifest, path, kWeightsFile),
                        optimizer = read_listed(manifest, path, kOptimizerFile);

  const TensorTargets weight_targets = weight_targets_of(parameters);
  weight_targets.check(weights, path + "/" + kWeightsFile, false);
  const RandomState random{manifest.word("random/seed"), manifest.word("random/step")};
  const TensorTargets state_targets =
      optimizer_targets(optimizer, path + "/" + kOptimizerFile, parameters, checkpoint.state.accumulated > 0);
  weight_targets.copy(weights);
  state_targets.copy(optimizer);
  settle_moments(parameters, optimizer, checkpoint.optimizer);
  parameters.set_random(random);
  parameters.round_values();
  if (checkpoint.state.accumulated > 0) parameters.adopt_gradients();
  return checkpoint;
}

Checkpoint load_checkpoint_weights(const std::string& path, const Parameters& parameters) {
  parameters.check_shows_values("load_checkpoint_weights");
  const Manifest manifest(path);
  Checkpoint checkpoint = checkpoint_of(manifest, path);
  const SafetensorsFile weights = read_listed(manifest, path, kWeightsFile);
  const TensorTargets targets = weight_targets_of(parameters);
  targets.check(weights, path + "/" + kWeightsFile, false);
  take_values(targets, weights, parameters);
  return checkpoint;
}

void save_weights(const std::string& file, const Parameters& parameters) {
  write_file_atomically(real_file_system(), file, weights_of(parameters).bytes());
}

void load_weights(const std::string& file, const Parameters& parameters, const std::string& below) {
  parameters.check_shows_values("load_weights");
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored))
    throw CheckpointError(format_message("[{}] is missing or no file; check the path", file));
  const SafetensorsFile weights = SafetensorsFile::read(file);
  TensorTargets targets = weight_targets_of(parameters);
  targets.below = below;
  targets.check(weights, file, true);
  take_values(targets, weights, parameters);
}

}  // namespace libtrain
