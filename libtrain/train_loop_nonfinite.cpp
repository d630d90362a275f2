/// What a TrainLoop does about an update that is not finite.
#include "libtrain/train_loop.h"

namespace libtrain {

/// After the update that was counted last, which was not finite: the mini-batches behind it have changed nothing, and are forgotten.
void TrainLoop::stay_behind() {
  const StepReport& report = *(nonfinite_ = reports_.back());
  while (mailbox_.take(0)) {
  }
  under_way_.clear();
  state_.batch = report.batch + 1;
  state_.steps = report.step;
  state_.updates = report.updates;
  state_.accumulated = 0;
  update_began_ = state_;
  parameters_.clear_gradients();
  parameters_.open_update();
}

/// Finds out where an update stopped being finite, and does what the options say.
void TrainLoop::answer_nonfinite() {
  if (!nonfinite_) return;
  const StepReport& bad = *nonfinite_;
  NonFiniteReport report;
  report.update = bad.updates;
  report.epoch = bad.epoch;
  report.batch = bad.batch + 1 - bad.batches_of_update;
  report.batches = bad.batches_of_update;
  report.loss = bad.loss;
  report.gradient_norm = bad.gradient_norm;
  const int64_t first_step = bad.step - bad.batches_of_update;
  batch_calls_.begin_epoch(bad.epoch);  // batches are asked for in rising order
  examine_nonfinite(parameters_, report, [&](int64_t i) {
    parameters_.set_random_step(uint64_t(first_step + i));
    differentiate(batch_calls_.get(report.batch + i).get());
  });
  report.in_a_row = nonfinite_in_a_row_ + 1;
  report.diverged = options_.nonfinite_limit > 0 && report.in_a_row >= options_.nonfinite_limit;
  report.rewound = !report.diverged && options_.rewind && rewind(report);
  nonfinite_in_a_row_ = report.in_a_row;
  updated_since_ = false;
  answered_ = std::move(report);
  nonfinite_.reset();
}

/// The counts go on where they are.
bool TrainLoop::rewind(const NonFiniteReport& report) {
  const int64_t skipped = parameters_.step().skipped_updates;
  if (!options_.rewind(report)) return false;
  StepState step = parameters_.step();
  step.skipped_updates = skipped;
  parameters_.set_step(step);
  parameters_.open_update();
  parameters_.clear_gradients();
  return true;
}

void TrainLoop::fire_nonfinite() {
  const auto report = std::exchange(answered_, std::nullopt);
  if (!report) return;
  for (const auto& handler : nonfinite_handlers_) handler(*report);
  if (report->diverged) throw_diverged(*report);
}

/// Nothing is held back for what an earlier loop has left, or a state that was saved before the host had looked.
void TrainLoop::let_updates_through() {
  StepState step = parameters_.step();
  if (step.skip < StepState::kHolds) return;
  step.skip = StepState::kUpdates;
  parameters_.set_step(step);
}

}  // namespace libtrain
