#include "libtrain/train_loop.h"

#include <chrono>

#include "kernels/token_loss.h"
#include "libtrain/optim/clip_by_norm.h"

namespace libtrain {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Adds the loss of a mini-batch to the totals of the open update, on the device.
void accumulate_loss(const TokenLoss& loss, const Parameters& parameters) {
  visit_float("train_loop", loss.sum.dtype(), [&]<class T> {
    if constexpr (!std::is_same_v<T, bf16>)
      on(parameters.device(), [&](auto device) {
        kernels::accumulate_loss(device, loss.sum.view<const T>(), loss.count.view<const int64_t>(),
                                 parameters.step_view());
      });
  });
}

}  // namespace

TrainLoop::TrainLoop(const Parameters& parameters, std::function<int64_t(int64_t)> begin_epoch,
                     std::function<TokenLoss(int64_t)> forward, Options options)
    : parameters_(parameters),
      begin_epoch_(std::move(begin_epoch)),
      forward_(std::move(forward)),
      options_(std::move(options)) {
  LIBTRAIN_CHECK(options_.epochs >= 0, "[train_loop] epochs must be >= 0, got {}", options_.epochs);
  LIBTRAIN_CHECK(options_.max_updates >= 0, "[train_loop] max_updates must be >= 0 (0: no limit), got {}",
                 options_.max_updates);
  LIBTRAIN_CHECK(options_.accumulate >= 1, "[train_loop] accumulate must be >= 1, got {}", options_.accumulate);
  LIBTRAIN_CHECK(options_.clip_norm >= 0, "[train_loop] clip_norm must be >= 0 (0: no clipping), got {}",
                 options_.clip_norm);
  LIBTRAIN_CHECK(options_.checkpoint_every >= 0, "[train_loop] checkpoint_every must be >= 0, got {}",
                 options_.checkpoint_every);
  LIBTRAIN_CHECK(options_.schedule != nullptr, "[train_loop] schedule is empty; constant_schedule() is the default");
  check_options(options_.adam);
  parameters_.clear_gradients();
}

bool TrainLoop::complete() const {
  return state_.epoch >= options_.epochs || (options_.max_updates > 0 && state_.updates >= options_.max_updates);
}

bool TrainLoop::run() {
  while (!stop_requested_ && step()) {
  }
  fire_checkpoint();
  return complete();
}

bool TrainLoop::step() {
  fire_epoch();  // left over when a handler threw
  if (complete()) return false;
  StepReport report;
  try {
    open_epoch();
    train_batch(report);
  } catch (...) {
    roll_back();
    throw;
  }
  for (const auto& handler : step_handlers_) handler(report);
  fire_epoch();
  const bool due = report.updated && options_.checkpoint_every > 0 && state_.updates % options_.checkpoint_every == 0;
  if (due) fire_checkpoint();
  return true;
}

void TrainLoop::open_epoch() {
  if (batches_ >= 0) return;
  const int64_t batches = begin_epoch_(state_.epoch);
  LIBTRAIN_CHECK(batches > state_.batch, "[train_loop] epoch {} has {} batches, cannot start at batch {}", state_.epoch,
                 batches, state_.batch);
  batches_ = batches;
}

void TrainLoop::train_batch(StepReport& report) {
  const double began = seconds_now();
  const StepState before = parameters_.step();
  parameters_.set_random({parameters_.random().seed, uint64_t(state_.steps)});
  {
    Tape tape;
    const TokenLoss loss = forward_(state_.batch);
    if (loss.sum.requires_grad()) tape.backward(loss.sum);
    accumulate_loss(loss, parameters_);
  }
  const StepState after = parameters_.step();
  report.targets = after.loss_count - before.loss_count;
  report.loss = report.targets > 0 ? (after.loss_sum - before.loss_sum) / double(report.targets) : 0;
  report.epoch = state_.epoch;
  report.batch = state_.batch++;
  report.batches = batches_;
  report.step = ++state_.steps;
  state_.epoch_loss_sum += after.loss_sum - before.loss_sum;
  state_.epoch_targets += report.targets;
  ++state_.accumulated;
  if (state_.accumulated == options_.accumulate || state_.batch == batches_) update(report);
  report.seconds = seconds_now() - began;
  epoch_seconds_ += report.seconds;
  if (state_.batch == batches_) close_epoch();
}

void TrainLoop::update(StepReport& report) {
  for (const auto& handler : update_handlers_) handler(parameters_);
  StepState prepared = parameters_.step();
  prepared.learning_rate = options_.adam.learning_rate * options_.schedule(state_.updates + 1);
  parameters_.set_step(prepared);
  clip_by_norm(parameters_, options_.clip_norm);
  adam_update(parameters_, options_.adam);
  parameters_.clear_gradients();
  const StepState done = parameters_.step();
  report.updated = true;
  report.skipped = done.skip != 0;
  report.updates = ++state_.updates;
  report.gradient_norm = done.gradient_norm;
  report.learning_rate = done.learning_rate;
  state_.accumulated = 0;
  update_began_ = state_;
}

/// Moves to the next epoch before anyone is told, so that a handler that throws or saves sees the loop between epochs.
void TrainLoop::close_epoch() {
  const double loss = state_.epoch_targets > 0 ? state_.epoch_loss_sum / double(state_.epoch_targets) : 0;
  finished_epoch_ = {state_.epoch, loss, state_.epoch_targets, state_.steps, state_.updates, epoch_seconds_};
  ++state_.epoch;
  state_.batch = 0;
  state_.epoch_loss_sum = 0;
  state_.epoch_targets = 0;
  update_began_ = state_;
  batches_ = -1;
  epoch_seconds_ = 0;
}

void TrainLoop::fire_epoch() {
  if (const auto report = std::exchange(finished_epoch_, std::nullopt))
    for (const auto& handler : epoch_handlers_) handler(*report);
}

void TrainLoop::fire_checkpoint() {
  for (const auto& handler : checkpoint_handlers_) handler(state_);
}

/// Back to the beginning of the open update: nothing of it counts.
void TrainLoop::roll_back() {
  parameters_.clear_gradients();
  StepState step = parameters_.step();
  step.loss_sum = 0;
  step.loss_count = 0;
  parameters_.set_step(step);
  state_ = update_began_;
  batches_ = -1;
}

void TrainLoop::restore(const TrainState& state) {
  LIBTRAIN_CHECK(
      state.epoch >= 0 && state.batch >= 0 && state.steps >= 0 && state.updates >= 0 && state.accumulated >= 0 &&
          state.accumulated < options_.accumulate,
      "[train_loop] cannot restore epoch {}, batch {}, step {}, update {} with {} accumulated mini-batches of {}",
      state.epoch, state.batch, state.steps, state.updates, state.accumulated, options_.accumulate);
  state_ = state;
  const StepState open = parameters_.step();
  update_began_ = state;
  update_began_.batch -= state.accumulated;
  update_began_.steps -= state.accumulated;
  update_began_.accumulated = 0;
  update_began_.epoch_loss_sum -= open.loss_sum;
  update_began_.epoch_targets -= open.loss_count;
  batches_ = -1;
  if (state.accumulated > 0)
    parameters_.mark_gradients_written();
  else
    parameters_.clear_gradients();
}

}  // namespace libtrain
