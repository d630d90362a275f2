/// The folder in which a run keeps its checkpoints: what they are called, which are complete, and how old ones go.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "libtrain/io/file.h"

namespace libtrain {

/// What a checkpoint's folder is complete with: state of the run, and sizes and hashes of the other files.
inline constexpr const char* kManifestFile = "manifest.json";
/// Every parameter under its name.
inline constexpr const char* kWeightsFile = "weights.safetensors";
/// Moments, step state and average; gradients within an accumulation.
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";
/// All files of a checkpoint, in the order of their names.
inline constexpr std::array kCheckpointFiles{kManifestFile, kOptimizerFile, kWeightsFile};
/// Beside the checkpoints: the name of the one saved last, for people and scripts.
inline constexpr const char* kLatestFile = "latest";

/// "<folder>/step-00001200"
std::string checkpoint_path(const std::string& folder, int64_t steps);

/// Paths of the checkpoints of a folder that have a manifest, oldest first; none when there is no folder.
std::vector<std::string> complete_checkpoints(const std::string& folder);

/// Removes the oldest checkpoints until `keep` are left, and what an earlier removal that failed has left of older ones. Never touches
/// those `spared`, nor files that no checkpoint has, nor a folder in which there are some. Throws IoError; a checkpoint whose removal failed counts
/// as incomplete and goes with the next call.
void remove_old_checkpoints(FileSystem& files, const std::string& folder, int64_t keep,
                            const std::vector<std::string>& spared);

/// Removes what processes that are no more (on this machine) have left while they wrote a checkpoint, or the manifest of one. What cannot be removed stays.
void remove_abandoned_checkpoints(FileSystem& files, const std::string& folder);

}  // namespace libtrain
