/// A model with what is needed to use it: parameters, vocabularies, the options of its run.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "examples/seq2seq/task.h"
#include "libtrain/checkpoint.h"
#include "libtrain/optim/moving_average.h"

namespace seq2seq {

/// Where a run stands with its validations.
struct Validations {
  int64_t last = -1;         // after how many updates the last one was; -1: there was none
  int64_t without_gain = 0;  // how many have brought no lower loss since the one that did
  bool operator==(const Validations&) const = default;
};

/// The program's part of a checkpoint: options, vocabularies, what was trained on, and validations, as JSON.
std::string program_json(const Options& options, const Codec& codec, const DataId& data,
                         const Validations& validations = {});
/// The vocabularies in it. Throws libtrain::CheckpointError naming `place`, where the program's part was read, and the field that is missing or
/// wrong.
Codec codec_from_json(const std::string& program, const std::string& place = "checkpoint");
/// What was trained on. Throws as codec_from_json does.
DataId data_id_from_json(const std::string& program, const std::string& place = "checkpoint");
/// The validations in it; none where it says nothing of them. Throws as codec_from_json does.
Validations validations_from_json(const std::string& program, const std::string& place = "checkpoint");
/// The options in it, as JSON. Throws as codec_from_json does.
std::string options_json(const std::string& program, const std::string& place = "checkpoint");

struct TrainedModel {
  Options options;
  Codec codec;
  libtrain::Parameters parameters;
  libtrain::Transformer transformer;

  /// Untrained.
  TrainedModel(const Options& options, const Codec& codec);
  /// From checkpoint_to_use(given). `given` may override nothing but the device and the data.
  static std::unique_ptr<TrainedModel> load(const Options& given);
};

/// While it lives, the model shows the weights that are validated, scored and used: in a run with --average-decay their running average.
class UsedWeights {
 public:
  explicit UsedWeights(TrainedModel& model) {
    if (model.options.average_decay > 0) average_.emplace(model.parameters);
  }

 private:
  std::optional<libtrain::AveragedWeights> average_;
};

/// The newest checkpoint in `folder` that loads; warns on stderr of each newer one that does not. Throws libtrain::CheckpointError when there
/// is none.
std::string newest_good_checkpoint(const std::string& folder);

/// The checkpoint that --model names; of a run's folder the newest good one, or with --best the one with the lowest score. Throws
/// libtrain::CheckpointError when there is none.
std::string checkpoint_to_use(const Options& options);

/// Those in `folder` that have a score, the lowest first, the older first of equals. What cannot be read is left out.
std::vector<libtrain::Checkpoint> scored_checkpoints(const std::string& folder);

}  // namespace seq2seq
