/// The checkpoints of a run, as they are made: which is the best, and what becomes of a save that fails.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "examples/seq2seq/trained_model.h"

namespace seq2seq {

/// The command that goes on with a run, which can be pasted.
std::string resume_command(const Options& options);

/// Saves the states of a run in its folder, and tells of it line by line.
class Saver {
 public:
  using Say = std::function<void(const std::string& line)>;
  using Program = std::function<std::string()>;

  /// A checkpoint whose score is the lowest so far.
  struct Best {
    double score;
    std::string path;
  };

  /// `program` gives the program's part of each checkpoint; `saved_step` is the step of the state that is saved already. Options and model must
  /// outlive it. Knows the best of those that --out has already.
  Saver(const Options& options, const TrainedModel& model, Program program, Say say, int64_t saved_step = -1);

  /// Saves, unless that state has been saved already, and scored if there is a score. `score`: the loss of these weights in validation, if it was
  /// computed. A save that fails is told as a warning, and training may go on; but the `last` one throws libtrain::IoError, with what is left and
  /// how to go on from it.
  void save(const libtrain::TrainState& state, std::optional<double> score, bool last);

  /// Whether it would be the best so far.
  bool is_best(double score) const;
  /// The best that was saved, or was there before; nothing without validation.
  const std::optional<Best>& best() const { return best_; }

 private:
  const Options& options_;
  const TrainedModel& model_;
  Program program_;
  Say say_;
  std::optional<Best> best_;
  int64_t saved_step_;
  bool scored_ = false;  // the state of that step, by this
};

}  // namespace seq2seq
