/// A checkpoint's folder: manifest, weights and optimizer state, one behind the other with the lengths of the first two before them. What is
/// refused leaves the parameters as they were; what loads has the bytes of the file.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "fuzz/mutate.h"
#include "fuzz/safetensors_mutate.h"
#include "libtrain/checkpoint.h"
#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/hash.h"
#include "libtrain/io/seal.h"
#include "libtrain/parameters.h"

namespace libtrain::fuzz {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kWords{
    "format",        "version", "state", "epoch",  "batch", "steps",   "updates",    "accumulated", "epoch_loss_sum",
    "epoch_targets", "random",  "seed",  "step",   "files", "weights", "optimizer",  "bytes",       "xxh3_128",
    "tensors",       "program", "score", "0x1p+0", "inf",   "nan",     "-0x1p-1074", "w",           "b"};

struct Parts {
  std::string manifest, weights, optimizer;
};

std::string joined(const Parts& parts) {
  std::string text(8, '\0');
  const uint32_t lengths[] = {uint32_t(parts.manifest.size()), uint32_t(parts.weights.size())};
  std::memcpy(text.data(), lengths, sizeof(lengths));
  return text + parts.manifest + parts.weights + parts.optimizer;
}

Parts split(std::string_view input) {
  uint32_t lengths[2] = {};
  std::memcpy(lengths, input.data(), std::min(input.size(), sizeof(lengths)));
  input.remove_prefix(std::min(input.size(), sizeof(lengths)));
  const auto take = [&](size_t bytes) {
    const std::string part(input.substr(0, bytes));
    input.remove_prefix(part.size());
    return part;
  };
  return {take(lengths[0]), take(lengths[1]), take(input.size())};
}

/// The store that every input is loaded into, a sound checkpoint of it, and a folder whose files are in memory.
struct World {
  Parameters parameters;
  Parts sound;
  MemoryFile manifest, weights, optimizer;
  std::string folder, checkpoint;

  World() {
    std::string name = fs::temp_directory_path() / "libtrain-fuzz-XXXXXX";
    if (!mkdtemp(name.data())) throw std::runtime_error("cannot make " + name);
    folder = name;
    parameters.add("w", Shape{2, 3}, init::constant(1));
    parameters.add("b", Shape{3}, init::constant(0));
    parameters.set_optimizer(adam({}).info);
    save_sound();
    for (const auto& [file, link] : {std::pair(&manifest, kManifestFile), std::pair(&weights, kWeightsFile),
                                     std::pair(&optimizer, kOptimizerFile)}) {
      fs::remove(checkpoint + "/" + link);
      fs::create_symlink(file->path(), checkpoint + "/" + link);
    }
  }
  ~World() { fs::remove_all(folder); }

  void fill(const Parts& parts) {
    manifest.fill(parts.manifest);
    weights.fill(parts.weights);
    optimizer.fill(parts.optimizer);
  }

  /// Of values and moments.
  std::string fingerprint() const {
    std::string bytes;
    for (const Tensor& tensor : {parameters.values(), parameters.first_moment(), parameters.second_moment()})
      for (const double value : tensor.cast(DType::f64).to_vector<double>())
        bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return bytes;
  }

 private:
  void save_sound() {
    checkpoint = save_checkpoint(folder, parameters, {.epoch = 1, .batch = 2, .steps = 5, .updates = 5},
                                 R"({"options":{"size":4,"dropout":0.5},"source":["a","é"]})", {.score = 1.5});
    const auto slurp = [&](const char* name) {
      std::ifstream file(checkpoint + "/" + name, std::ios::binary);
      return std::string(std::istreambuf_iterator<char>(file), {});
    };
    sound = {slurp(kManifestFile), slurp(kWeightsFile), slurp(kOptimizerFile)};
  }
};

World* world;

/// Replaces what stands between `before` (searched for from `from` on) and the next character of `end`.
void replace_behind(std::string& text, size_t from, const std::string& before, const char* end,
                    const std::string& value) {
  const size_t at = text.find(before, from);
  if (at == text.npos) return;
  const size_t begin = at + before.size();
  text.replace(begin, std::min(text.find_first_of(end, begin), text.size()) - begin, value);
}

/// Sizes and hashes as the files have them now.
void list_files(Parts& parts) {
  for (const auto& [name, file] :
       {std::pair("\"weights\"", &parts.weights), std::pair("\"optimizer\"", &parts.optimizer)}) {
    const size_t at = parts.manifest.find(name);
    if (at == parts.manifest.npos) continue;
    replace_behind(parts.manifest, at, "\"bytes\": ", ",}\n", std::to_string(file->size()));
    replace_behind(parts.manifest, at, "\"xxh3_128\": \"", "\"", xxh3_128_hex(std::as_bytes(std::span(*file))));
  }
}

void seal(std::string& manifest) {
  const size_t at = manifest.rfind(",\n \"xxh3_128\"");
  if (at != manifest.npos) manifest = sealed(manifest.substr(0, at) + "\n}");
}

/// What a program may rely on.
void check_read(const Checkpoint& checkpoint) {
  const TrainState& state = checkpoint.state;
  require(state.epoch >= 0 && state.accumulated >= 0 && state.accumulated <= state.batch && state.batch <= state.steps,
          "a state that no run has");
  require(checkpoint.program.starts_with('{') && checkpoint.program.ends_with('}'), "a program that is no object");
}

}  // namespace

void prepare() {
  setenv("OMP_NUM_THREADS", "1", 1);
  static World only;
  world = &only;
}

void run(std::string_view input) {
  const Parts parts = split(input);
  world->fill(parts);
  const size_t total = parts.manifest.size() + parts.weights.size() + parts.optimizer.size();
  const std::string before = world->fingerprint();
  try {
    measured(parts.manifest.size(), [&] { check_read(read_checkpoint(world->checkpoint)); });
    measured(total, [&] { verify_checkpoint(world->checkpoint); });
    require(newest_checkpoint(world->folder, {}) == world->checkpoint, "a verified checkpoint that is not found");
    measured(total, [&] { load_checkpoint(world->checkpoint, world->parameters); });
  } catch (const Error&) {
    require(world->fingerprint() == before, "parameters that changed although the checkpoint was refused");
    throw;
  }
}

std::string mutate(const std::string& input, Random& random) {
  if (random.once_in(32)) return joined(world->sound);
  Parts parts = split(input);
  // Inputs are kept for new ways in which they are refused; what is checked last is reached from one that is not.
  if (parts.manifest.empty() || random.once_in(4)) parts = world->sound;
  switch (random.below(6)) {
    case 0:
      parts.weights = mutate_safetensors(parts.weights, random);
      break;
    case 1:
      parts.optimizer = mutate_safetensors(parts.optimizer, random);
      break;
    default:
      parts.manifest = mutate_json(parts.manifest, kWords, random);
  }
  if (!random.once_in(8)) list_files(parts);
  if (!random.once_in(8)) seal(parts.manifest);
  return joined(parts);
}

}  // namespace libtrain::fuzz
