/// Saving and resuming a training run: one folder per checkpoint, complete or absent.
///
///   <folder>/step-00001200/manifest.json          version, TrainState, random state, optimizer, sizes and hashes, the program's own part
///   <folder>/step-00001200/weights.safetensors    every parameter under its name
///   <folder>/step-00001200/optimizer.safetensors  the optimizer's moments and step state, the averaged values if the store keeps them, and the
///                                                 gradients when the state lies within an accumulation
///
/// A checkpoint is written under a temporary name, every file and folder is flushed to the disk, and only then renamed: after a crash at
/// any moment the newest complete one loads. Everything that is read is checked: files and tensors against hashes in the manifest, the manifest
/// against a hash in its last line.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "libtrain/io/file.h"
#include "libtrain/parameters.h"
#include "libtrain/train_loop.h"

namespace libtrain {

/// What a checkpoint says without its tensors.
struct Checkpoint {
  std::string path;     // of its folder
  TrainState state;     // what TrainLoop::restore() takes
  std::string program;  // the JSON text that the program gave to save_checkpoint: its configuration, vocabularies…
  std::optional<double> score;  // SaveOptions::score
  /// The name of the one whose state it holds (OptimizerInfo::name); "" when nobody has said.
  std::string optimizer = {};
};

/// Which older checkpoints a new one leaves in place, and through what it is written.
struct SaveOptions {
  int64_t keep = 0;  // how many of the newest stay; 0: all
  /// Of these weights on held-out data, the lower the better: beside the newest, the one with the lowest stays.
  std::optional<double> score = {};
  FileSystem& files = real_file_system();  // what the checkpoint is written through
};

/// Writes `<folder>/step-<state.steps, 8 digits>` (the folder is made if needed), then its name to `<folder>/latest`, and returns its path.
/// Afterwards removes the oldest checkpoints of the folder until `keep` are left, but never the one just written nor the one with the lowest
/// score, and what saves of processes that are no more have left unfinished. Of one of that step with the same state and tensors, which is there
/// already, `program` and the score (where one is given) are replaced; a damaged one is kept under another name. `program` must be a JSON object.
/// Throws InvalidArgument for `program` or `keep` that cannot be; CheckpointError when another checkpoint of that step is there; IoError,
/// naming path and reason, when anything cannot be written or an old one not removed. What was there before stays, and nothing half-written
/// does: training may go on and save again.
std::string save_checkpoint(const std::string& folder, const Parameters& parameters, const TrainState& state,
                            const std::string& program = "{}", const SaveOptions& options = {});

/// Is told, in one sentence, of each checkpoint that is newer than the one found and cannot be loaded: what is wrong with which file.
using PassedOver = std::function<void(const std::string& reason)>;

/// Path of the newest checkpoint in `folder` that verify_checkpoint() accepts. Throws CheckpointError, with the reasons, when there is none.
/// Every file of it is read and hashed (load_checkpoint() does so once more). Going on from an older one repeats steps: tell the user what
/// `passed_over` is told; it may be empty.
std::string newest_checkpoint(const std::string& folder, const PassedOver& passed_over);

/// Reads everything at `path` (a checkpoint's folder) and checks it against the sizes and hashes that were saved with it: whatever bit has
/// changed, in any file. Throws CheckpointError naming the file and the first damaged tensor, or IoError when a file cannot be read.
Checkpoint verify_checkpoint(const std::string& path);

/// Reads and checks the manifest at `path` (a checkpoint's folder). Throws CheckpointError naming file and field.
Checkpoint read_checkpoint(const std::string& path);

/// Fills `parameters` (values, moments, gradients if saved, step and random state) from the checkpoint at `path`; restore the TrainLoop from
/// the returned state afterwards. Rates, schedule, groups and the like are the program's, and may be others than before; the optimizer must be the
/// same. Throws CheckpointError when `parameters` are trained by another one, and when a file is missing, damaged or does not fit: wrong names,
/// shapes or dtypes are listed with what was expected. Nothing is changed then.
Checkpoint load_checkpoint(const std::string& path, const Parameters& parameters);

/// Fills the values alone, for using what was trained: of the checkpoint's files manifest.json and weights.safetensors are read, and no other need
/// be there; moments are not made, and an average begins anew. Training goes on from load_checkpoint(). Throws as that does for what it reads.
Checkpoint load_checkpoint_weights(const std::string& path, const Parameters& parameters);

/// The weights alone, as a safetensors file that other programs read; written atomically.
void save_weights(const std::string& file, const Parameters& parameters);
/// Fills the values of `parameters` from a safetensors file with exactly these names and shapes (f32 or f64, converted; bf16 and f16 are refused), such
/// as PyTorch writes for modules of the same kind. With `below` ("encoder."), from those tensors of a larger file whose names
/// begin so: what comes behind is the name here. Throws CheckpointError listing what is missing, unexpected or of another shape; nothing is changed
/// then.
void load_weights(const std::string& file, const Parameters& parameters, const std::string& below = "");

}  // namespace libtrain
