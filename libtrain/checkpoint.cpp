#include "libtrain/checkpoint.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/hash.h"
#include "libtrain/io/json_check.h"
#include "libtrain/io/safetensors.h"

namespace libtrain {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "libtrain checkpoint";
constexpr int64_t kFormatVersion = 2;
constexpr int64_t kLargestManifest = 64 << 20;
constexpr int kDeepestManifest = 32;
constexpr int64_t kLargestCount = int64_t(1) << 53;

// ---- Tensors to bytes and back ------------------------------------------------------------------------------------------

const char* format_dtype(DType dtype) {
  constexpr const char* kNames[] = {"F32", "BF16", "F64", "I32", "I64"};
  return kNames[int(dtype)];
}

std::span<const std::byte> bytes_of(const Tensor& host) {
  return {host.node_handle()->data, size_t(host.numel() * size_of(host.dtype()))};
}

/// Tensors under their names, kept alive on the host until they are written.
class TensorFile {
 public:
  void add(const std::string& name, const Tensor& tensor) { tensors_.emplace_back(name, tensor.to(Device::kCpu)); }

  std::vector<std::byte> bytes() const {
    std::vector<TensorEntry> entries;
    for (const auto& [name, tensor] : tensors_) {
      const auto dims = tensor.shape().dims();
      entries.push_back({name, format_dtype(tensor.dtype()), {dims.begin(), dims.end()}, bytes_of(tensor)});
    }
    return write_safetensors(entries);
  }

 private:
  std::vector<std::pair<std::string, Tensor>> tensors_;
};

/// As Shape prints it, which has fewer dimensions than a file may have.
std::string spec_of(const TensorEntry& entry) {
  std::string text = entry.dtype + "[";
  for (size_t i = 0; i < entry.shape.size(); ++i) text += (i ? ", " : "") + std::to_string(entry.shape[i]);
  return text + "]";
}
std::string spec_of(const Tensor& tensor) { return format_dtype(tensor.dtype()) + tensor.shape().str(); }

/// Where each tensor of a file goes. Checks everything first, so that a file that does not fit changes nothing.
class TensorTargets {
 public:
  void add(const std::string& name, const Tensor& target) { targets_[name] = target; }

  /// Names of the file that do not begin with this are not looked at, and this is no part of those that do.
  std::string below = {};

  /// `convert`: accept f32 for f64 and the other way round.
  void check(const SafetensorsFile& file, const std::string& path, bool convert) const {
    std::vector<std::string> faults;
    for (const auto& [name, target] : targets_)
      if (!file.contains(below + name))
        faults.push_back("missing " + below + name + " " + spec_of(target));
      else if (!fits(file.entry(below + name), target, convert))
        faults.push_back(below + name + " is " + spec_of(file.entry(below + name)) + ", expected " + spec_of(target));
    for (const std::string& name : file.names())
      if (name.starts_with(below) && !targets_.contains(name.substr(below.size())))
        faults.push_back("unexpected " + name + " " + spec_of(file.entry(name)));
    if (faults.empty()) return;
    const size_t shown = std::min<size_t>(faults.size(), 4);
    std::string list;
    for (size_t i = 0; i < shown; ++i) list += (i ? "; " : "") + faults[i];
    throw CheckpointError(
        format_message("[{}] does not fit this model, {} differences: {}{}; build the model with the options it was "
                       "saved with",
                       path, faults.size(), list, faults.size() > shown ? "; …" : ""));
  }

  void copy(const SafetensorsFile& file) const {
    for (const auto& [name, target] : targets_) {
      const TensorEntry entry = file.entry(below + name);
      const Tensor host(target.shape(), entry.dtype == "F64"   ? DType::f64
                                        : entry.dtype == "F32" ? DType::f32
                                                               : target.dtype());
      copy_bytes(host.node_handle()->data, Device::kCpu, entry.bytes.data(), Device::kCpu, entry.bytes.size());
      target.copy_from(host.dtype() == target.dtype() ? host : host.cast(target.dtype()));
    }
  }

 private:
  static bool fits(const TensorEntry& entry, const Tensor& target, bool convert) {
    const bool same = entry.dtype == format_dtype(target.dtype());
    const bool convertible = convert && (entry.dtype == "F32" || entry.dtype == "F64");
    return (same || convertible) && std::ranges::equal(entry.shape, target.shape().dims());
  }

  std::map<std::string, Tensor> targets_;
};

// ---- The manifest -------------------------------------------------------------------------------------------------------

/// Exact, and able to hold what JSON cannot (infinity, NaN).
std::string exact_text(double value) { return format_message("{:a}", value); }

Json to_json(const TrainState& state) {
  return {{"epoch", state.epoch},
          {"batch", state.batch},
          {"steps", state.steps},
          {"updates", state.updates},
          {"accumulated", state.accumulated},
          {"epoch_loss_sum", exact_text(state.epoch_loss_sum)},
          {"epoch_targets", state.epoch_targets}};
}

/// Reads fields of a manifest; every complaint names file and field.
struct ManifestReader {
  const Json& json;
  std::string path;

  [[noreturn]] void refuse(const std::string& field, const std::string& expected) const {
    throw CheckpointError(format_message("[{}] field '{}': expected {}", path, field, expected));
  }
  const Json& at(const std::string& field) const {
    const Json::json_pointer pointer("/" + field);
    if (!json.contains(pointer)) refuse(field, "it to be there");
    return json.at(pointer);
  }
  int64_t count(const std::string& field) const {
    const Json& value = at(field);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t(kLargestCount))
      refuse(field, "a whole number from 0 to 2^53, got " + value.dump());
    return value.get<int64_t>();
  }
  std::string text(const std::string& field) const {
    if (!at(field).is_string()) refuse(field, "a text, got " + at(field).dump());
    return at(field).get<std::string>();
  }
  double exact(const std::string& field) const {
    const std::string written = text(field);
    char* end = nullptr;
    const double value = std::strtod(written.c_str(), &end);
    if (written.empty() || *end) refuse(field, "a number in hexadecimal, got " + written);
    return value;
  }
};

Json parse_manifest(const std::string& path) {
  const auto bytes = read_file(path, kLargestManifest);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  check_json(text, kDeepestManifest, {path, "manifest"});
  return Json::parse(text);
}

Checkpoint checkpoint_of(const ManifestReader& manifest, const std::string& path) {
  if (manifest.text("format") != kFormat) manifest.refuse("format", std::string("'") + kFormat + "'");
  if (const int64_t version = manifest.count("version"); version != kFormatVersion)
    manifest.refuse("version",
                    format_message("{}, got {}: written by another version of libtrain", kFormatVersion, version));
  const TrainState state{manifest.count("state/epoch"),        manifest.count("state/batch"),
                         manifest.count("state/steps"),        manifest.count("state/updates"),
                         manifest.count("state/accumulated"),  manifest.exact("state/epoch_loss_sum"),
                         manifest.count("state/epoch_targets")};
  if (state.accumulated > state.batch || state.batch > state.steps)
    manifest.refuse("state", format_message("accumulated <= batch <= steps, got {}, {} and {}", state.accumulated,
                                            state.batch, state.steps));
  if (!manifest.at("program").is_object()) manifest.refuse("program", "an object");
  return {path, state, manifest.at("program").dump()};
}

/// A file of the checkpoint, whose size and hash must be those of the manifest.
SafetensorsFile read_listed(const ManifestReader& manifest, const std::string& folder, const char* name) {
  const std::string path = folder + "/" + name;
  const size_t dot = std::string_view(name).find('.');
  const std::string field = "files/" + std::string(name).substr(0, dot);
  const int64_t expected = manifest.count(field + "/bytes");
  if (!fs::is_regular_file(path))
    throw CheckpointError(format_message("[{}] is missing; the checkpoint is incomplete", path));
  if (const auto size = int64_t(fs::file_size(path)); size != expected)
    throw CheckpointError(
        format_message("[{}] has {} bytes, the manifest says {}; copy it again", path, size, expected));
  auto bytes = read_file(path, expected);
  if (xxh3_128_hex(bytes) != manifest.text(field + "/xxh3_128"))
    throw CheckpointError(
        format_message("[{}] is damaged: its hash differs from the manifest's; copy it again, or remove this "
                       "checkpoint to go on from an older one",
                       path));
  return SafetensorsFile::parse(std::move(bytes), path);
}

Json file_entry(std::span<const std::byte> bytes) {
  return {{"bytes", bytes.size()}, {"xxh3_128", xxh3_128_hex(bytes)}};
}

/// Whether the checkpoint is there. Another one in its place is an error: neither of the two may be lost.
bool is_saved_already(const std::string& path, const Json& manifest) {
  const std::string manifest_path = path + "/" + kManifestFile;
  if (!fs::exists(manifest_path)) return false;
  const Json saved = parse_manifest(manifest_path);
  if (saved.value("state", Json()) == manifest["state"] && saved.value("files", Json()) == manifest["files"])
    return true;
  throw CheckpointError(
      format_message("[{}] is another checkpoint of the same step; move it away, or save to another folder", path));
}

TensorFile weights_of(const Parameters& parameters) {
  TensorFile file;
  for (const auto& slot : parameters.slots()) file.add(slot.name, slot.master);
  return file;
}

/// Calls visit(name, tensor) for everything in optimizer.safetensors.
template <class F> void for_optimizer_state(const Parameters& parameters, bool gradients, const F& visit) {
  for (const auto& slot : parameters.slots()) {
    visit("first_moment/" + slot.name, parameters.slice(parameters.first_moment(), slot));
    visit("second_moment/" + slot.name, parameters.slice(parameters.second_moment(), slot));
    if (parameters.options().average) visit("average/" + slot.name, parameters.slice(parameters.average(), slot));
    if (gradients) visit("gradient/" + slot.name, parameters.slice(parameters.gradients(), slot));
  }
  visit("step_state", parameters.step_state());
  visit("random_state", parameters.random_state());
}

}  // namespace

std::string save_checkpoint(const std::string& folder, const Parameters& parameters, const TrainState& state,
                            const std::string& program, int64_t keep, FileSystem& files) {
  const Json program_json = Json::parse(program, nullptr, false);
  LIBTRAIN_CHECK(program_json.is_object(), "[save_checkpoint] program must be a JSON object, got {}",
                 program.substr(0, 100));
  LIBTRAIN_CHECK(keep >= 0, "[save_checkpoint] keep must be >= 0 (0: all), got {}", keep);
  if (state.accumulated > 0) parameters.zero_unwritten_gradients();
  TensorFile optimizer;
  for_optimizer_state(parameters, state.accumulated > 0,
                      [&](const auto& name, const Tensor& tensor) { optimizer.add(name, tensor); });
  const auto weight_bytes = weights_of(parameters).bytes(), optimizer_bytes = optimizer.bytes();
  const Json manifest{{"format", kFormat},
                      {"version", kFormatVersion},
                      {"libtrain", kVersion},
                      {"state", to_json(state)},
                      {"files", {{"weights", file_entry(weight_bytes)}, {"optimizer", file_entry(optimizer_bytes)}}},
                      {"program", program_json}};

  const std::string path = checkpoint_path(folder, state.steps);
  if (is_saved_already(path, manifest)) return path;
  StagedDirectory staged(files, path);
  staged.write(kWeightsFile, weight_bytes);
  staged.write(kOptimizerFile, optimizer_bytes);
  const std::string text = manifest.dump(1) + "\n";
  staged.write(kManifestFile, std::as_bytes(std::span(text)));
  staged.commit();

  remove_abandoned_checkpoints(files, folder);
  if (keep > 0) remove_old_checkpoints(files, folder, keep, path);
  return path;
}

std::string newest_checkpoint(const std::string& folder) {
  if (!fs::is_directory(folder)) throw CheckpointError(format_message("[{}] is no folder; check the path", folder));
  const auto all = complete_checkpoints(folder);
  if (all.empty())
    throw CheckpointError(format_message("[{}] holds no complete checkpoint (step-…/{}); name the folder of a run",
                                         folder, kManifestFile));
  return all.back();
}

Checkpoint read_checkpoint(const std::string& path) {
  const std::string manifest_path = path + "/" + kManifestFile;
  if (!fs::is_regular_file(manifest_path))
    throw CheckpointError(format_message("[{}] is missing; {} is no checkpoint", manifest_path, path));
  const Json manifest = parse_manifest(manifest_path);
  return checkpoint_of({manifest, manifest_path}, path);
}

Checkpoint load_checkpoint(const std::string& path, const Parameters& parameters) {
  const Checkpoint checkpoint = read_checkpoint(path);
  const std::string manifest_path = path + "/" + kManifestFile;
  const Json json = parse_manifest(manifest_path);
  const ManifestReader manifest{json, manifest_path};
  const SafetensorsFile weights = read_listed(manifest, path, kWeightsFile),
                        optimizer = read_listed(manifest, path, kOptimizerFile);

  TensorTargets weight_targets, optimizer_targets;
  for (const auto& slot : parameters.slots()) weight_targets.add(slot.name, slot.master);
  for_optimizer_state(parameters, checkpoint.state.accumulated > 0,
                      [&](const auto& name, const Tensor& tensor) { optimizer_targets.add(name, tensor); });
  weight_targets.check(weights, path + "/" + kWeightsFile, false);
  optimizer_targets.check(optimizer, path + "/" + kOptimizerFile, false);
  weight_targets.copy(weights);
  optimizer_targets.copy(optimizer);
  parameters.round_values();
  return checkpoint;
}

void save_weights(const std::string& file, const Parameters& parameters) {
  write_file_atomically(real_file_system(), file, weights_of(parameters).bytes());
}

void load_weights(const std::string& file, const Parameters& parameters, const std::string& below) {
  if (!fs::is_regular_file(file)) throw CheckpointError(format_message("[{}] is missing or no file", file));
  const SafetensorsFile weights = SafetensorsFile::read(file);
  TensorTargets targets;
  targets.below = below;
  for (const auto& slot : parameters.slots()) targets.add(slot.name, slot.master);
  targets.check(weights, file, true);
  targets.copy(weights);
  parameters.round_values();
}

}  // namespace libtrain
