#include "examples/seq2seq/saver.h"

#include <cmath>

#include "libtrain/io/checkpoint_folder.h"

namespace seq2seq {

using libtrain::format_message;

std::string resume_command(const Options& options) { return options.command + (options.resume ? "" : " --resume"); }

Saver::Saver(const Options& options, const TrainedModel& model, Program program, Say say, int64_t saved_step)
    : options_(options), model_(model), program_(std::move(program)), say_(std::move(say)), saved_step_(saved_step) {
  auto scored = scored_checkpoints(options.out);
  // What is newer than the state that a run goes on with cannot be loaded.
  if (saved_step >= 0) std::erase_if(scored, [&](const auto& one) { return one.state.steps > saved_step; });
  if (!scored.empty()) best_ = {*scored.front().score, scored.front().path};
}

bool Saver::is_best(double score) const { return std::isfinite(score) && (!best_ || score < best_->score); }

void Saver::save(const libtrain::TrainState& state, std::optional<double> score, bool last) {
  if (state.steps == saved_step_ && (!score || scored_)) return;
  const bool best = score && is_best(*score);
  try {
    const std::string path = libtrain::save_checkpoint(options_.out, model_.parameters, state, program_(),
                                                       {.keep = options_.keep, .score = score});
    if (best) best_ = {*score, path};
    saved_step_ = state.steps;
    scored_ = score.has_value();
    say_((best ? "best so far, saved " : "saved ") + path);
  } catch (const libtrain::IoError& error) {
    if (!last)
      return say_(
          format_message("warning: not saved: {}; training goes on, and the next save tries again", error.what()));
    const auto saved = libtrain::complete_checkpoints(options_.out);
    if (saved.empty()) throw;
    throw libtrain::IoError(format_message("{}\n{} is complete. When the fault is mended, go on from it with:\n  {}",
                                           error.what(), saved.back(), resume_command(options_)));
  }
}

}  // namespace seq2seq
