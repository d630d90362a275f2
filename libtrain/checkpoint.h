/// Saving and resuming a training run: one folder per checkpoint, complete or absent.
///
///   <folder>/step-00001200/manifest.json          version, sizes and hashes of the files, TrainState, RNG, the program's own part
///   <folder>/step-00001200/weights.safetensors    every parameter under its name
///   <folder>/step-00001200/optimizer.safetensors  Adam's moments, and the gradients when the state lies within an accumulation
///
/// A checkpoint is written under a temporary name, every file and folder is flushed to the disk, and only then renamed: after a crash at
/// any moment the newest complete one loads. Everything that is read is checked against the manifest.
#pragma once
#include <string>

#include "libtrain/parameters.h"
#include "libtrain/train_loop.h"

namespace libtrain {

/// What a checkpoint says without its tensors.
struct Checkpoint {
  std::string path;  // of its folder
  TrainState state;
  std::string program;  // the JSON text that the program gave to save_checkpoint: its configuration, vocabularies…
};

/// Writes `<folder>/step-<state.steps, 8 digits>` (the folder is made if needed) and returns its path. Afterwards removes the oldest
/// checkpoints of the folder until `keep` are left (0: keeps all). A checkpoint of that step which is there already is left alone: the same
/// run wrote it. `program` must be a JSON object.
/// Throws IoError, naming path and reason, when anything cannot be written; what was there before stays.
std::string save_checkpoint(const std::string& folder, const Parameters& parameters, const TrainState& state,
                            const std::string& program = "{}", int64_t keep = 0);

/// Path of the newest complete checkpoint in `folder`. Throws CheckpointError when there is none.
std::string newest_checkpoint(const std::string& folder);

/// Reads and checks the manifest at `path` (a checkpoint's folder). Throws CheckpointError naming file and field.
Checkpoint read_checkpoint(const std::string& path);

/// Fills `parameters` (values, moments, gradients if saved, step and random state) from the checkpoint at `path`; restore the TrainLoop from
/// the returned state afterwards. Throws CheckpointError when a file is missing, damaged or does not fit: wrong names, shapes or dtypes are
/// listed with what was expected. Nothing is changed then.
Checkpoint load_checkpoint(const std::string& path, const Parameters& parameters);

/// The weights alone, as a safetensors file that other programs read; written atomically.
void save_weights(const std::string& file, const Parameters& parameters);
/// Fills the values of `parameters` from a safetensors file with exactly these names and shapes (f32 or f64, converted). Throws CheckpointError
/// listing what is missing, unexpected or of another shape; nothing is changed then.
void load_weights(const std::string& file, const Parameters& parameters);

}  // namespace libtrain
