#include "libtrain/train_loop.h"

#include <chrono>
#include <cmath>

#include "kernels/token_loss.h"
#include "libtrain/optim/clip_by_norm.h"
#include "libtrain/optim/clip_by_value.h"
#include "libtrain/optim/moving_average.h"
#include "libtrain/stream_order.h"

namespace libtrain {
namespace {

/// Snapshots of the step state that may be under way before the host waits.
constexpr size_t kLag = 2;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool all_frozen(const Parameters& parameters) {
  return std::ranges::all_of(parameters.slots(), &Parameters::Slot::frozen);
}

/// Adds the loss of a mini-batch to the totals of the open update, on the device.
void accumulate_loss(const TokenLoss& loss, const Parameters& parameters) {
  visit_float("train_loop", loss.sum.dtype(), [&]<class T> {
    on(parameters.device(), [&](auto device) {
      kernels::accumulate_loss(device, loss.sum.view<const T>(), loss.count.view<const int64_t>(),
                               parameters.step_view());
    });
  });
}

}  // namespace

TrainLoop::TrainLoop(Parameters& parameters, detail::BatchCalls batches, Options options)
    : parameters_(parameters), batch_calls_(std::move(batches)), options_(std::move(options)), mailbox_(parameters) {
  LIBTRAIN_CHECK(options_.epochs >= 0,
                 "[train_loop] epochs must be >= 0, got {}; max_updates can end a run of many epochs early",
                 options_.epochs);
  LIBTRAIN_CHECK(options_.max_updates >= 0, "[train_loop] max_updates must be >= 0 (0: no limit), got {}",
                 options_.max_updates);
  LIBTRAIN_CHECK(options_.accumulate >= 1,
                 "[train_loop] accumulate must be >= 1, got {}; 1 updates after every mini-batch", options_.accumulate);
  LIBTRAIN_CHECK(options_.clip_norm >= 0 && std::isfinite(options_.clip_norm),
                 "[train_loop] clip_norm must be >= 0 and finite (0: no clipping), got {}", options_.clip_norm);
  LIBTRAIN_CHECK(options_.clip_value >= 0 && std::isfinite(options_.clip_value),
                 "[train_loop] clip_value must be >= 0 and finite (0: no clipping), got {}", options_.clip_value);
  LIBTRAIN_CHECK(options_.average_decay >= 0 && options_.average_decay < 1,
                 "[train_loop] average_decay must be in [0, 1), got {}; 0 leaves the average alone, 0.999 is usual",
                 options_.average_decay);
  LIBTRAIN_CHECK(options_.average_decay == 0 || parameters.options().average,
                 "[train_loop] average_decay is {}, but the store keeps no average; make it with {}",
                 options_.average_decay, ".average = true");
  LIBTRAIN_CHECK(options_.checkpoint_every >= 0,
                 "[train_loop] checkpoint_every must be >= 0 (0: only at the end), got {}", options_.checkpoint_every);
  LIBTRAIN_CHECK(options_.nonfinite_limit >= 0, "[train_loop] nonfinite_limit must be >= 0 (0: none), got {}",
                 options_.nonfinite_limit);
  LIBTRAIN_CHECK(options_.schedule != nullptr, "[train_loop] schedule is empty; constant_schedule() is the default");
  optimizer_ = options_.optimizer ? *options_.optimizer : adam(options_.adam);
  LIBTRAIN_CHECK(optimizer_.update, "[train_loop] the optimizer has no {} function; adam() and sgd() make whole ones",
                 "update");
  LIBTRAIN_CHECK(optimizer_.learning_rate > 0 && optimizer_.learning_rate < 1e30,
                 "[train_loop] the optimizer's learning_rate must be > 0 and < 1e30, got {}; set it beside update",
                 optimizer_.learning_rate);
  LIBTRAIN_CHECK(!options_.graphs || batch_calls_.layout,
                 "[train_loop] graphs need batches with {}, which this type has not; see libtrain/data/batch.h",
                 "layout(), copy_from() and to()");
  if (parameters_.device() == Device::kCuda) stream_ = std::make_unique<cuda::Stream>();
  if (stream_ && options_.weight_gradient_stream) side_ = std::make_unique<detail::SideStream>();
  if (stream_ && options_.graphs) graphs_ = std::make_unique<StepGraphs>();
  parameters.shrink_to_fit();
  parameters.set_optimizer(optimizer_.info);
  one_ = Tensor::full({}, 1, parameters_.dtype(), parameters_.device());
  parameters_.clear_gradients();
  let_updates_through();
}

bool TrainLoop::complete() const {
  return state_.epoch >= options_.epochs || (options_.max_updates > 0 && state_.updates >= options_.max_updates);
}

bool TrainLoop::run() {
  const StreamOrder order(stream_.get());
  while (!stop_requested_ && step_here()) {
  }
  settle();
  fire_checkpoint();
  stop_requested_ = false;
  return complete();
}

/// Waits for everything that is under way, and tells it.
void TrainLoop::settle() {
  try {
    clock_ = seconds_now();
    collect(0);
    answer_nonfinite();
  } catch (...) {
    roll_back();
    throw;
  }
  fire_reports();
  fire_nonfinite();
}

bool TrainLoop::step() {
  const StreamOrder order(stream_.get());
  return step_here();
}

bool TrainLoop::step_here() {
  parameters_.check_shows_values("train_loop");
  fire_reports();  // left over when a handler threw
  fire_nonfinite();
  if (nonfinite_) settle();
  fire_epoch();
  if (checkpoint_due_) fire_checkpoint();
  if (complete()) settle();
  if (complete()) return false;
  const int64_t updates = state_.updates;
  try {
    clock_ = seconds_now();
    open_epoch();
    train_batch();
    const auto save_is_due = [&] {
      return options_.checkpoint_every > 0 && state_.updates > updates &&
             state_.updates % options_.checkpoint_every == 0;
    };
    if (checkpoint_requested_.exchange(false)) checkpoint_due_ = true;
    collect(checkpoint_due_ || save_is_due() || state_.batch == batches_ ? 0 : kLag);
    if (save_is_due()) checkpoint_due_ = true;
    take_time();
    answer_nonfinite();
  } catch (...) {
    roll_back();
    throw;
  }
  if (state_.batch == batches_) close_epoch();
  fire_reports();
  fire_nonfinite();
  fire_epoch();
  if (checkpoint_due_) fire_checkpoint();
  return true;
}

void TrainLoop::open_epoch() {
  if (batches_ >= 0) return;
  const int64_t batches = batch_calls_.begin_epoch(state_.epoch);
  LIBTRAIN_CHECK(batches > state_.batch,
                 "[train_loop] epoch {} has {} batches, cannot start at batch {}; give it the data that it was saved "
                 "with, and never none",
                 state_.epoch, batches, state_.batch);
  batches_ = batches;
}

void TrainLoop::train_batch() {
  make_room();
  if (state_.accumulated == 0) begin_update();
  const bool updates = state_.accumulated + 1 == options_.accumulate || state_.batch + 1 == batches_;
  parameters_.set_random_step(uint64_t(state_.steps));
  if (updates) parameters_.set_learning_rate(learning_rate_of(state_.updates + 1));
  enqueue(batch_calls_.get(state_.batch), updates);
  StepReport report;
  report.epoch = state_.epoch;
  report.batch = state_.batch++;
  report.batches = batches_;
  report.step = ++state_.steps;
  ++state_.accumulated;
  if (updates) {
    report.updated = true;
    report.batches_of_update = state_.accumulated;
    report.updates = ++state_.updates;
    state_.accumulated = 0;
    update_began_ = state_;
  }
  mailbox_.post();
  under_way_.push_back(report);
}

/// Nothing counts that is of another: gradients that a handler has made, or what an earlier loop or a checkpoint has left open.
void TrainLoop::begin_update() {
  parameters_.clear_gradients();
  if (!std::exchange(has_begun_, true)) parameters_.open_update();
}

double TrainLoop::learning_rate_of(int64_t update) const {
  const double factor = options_.schedule(update), rate = factor * optimizer_.learning_rate;
  LIBTRAIN_CHECK(
      rate >= 0 && rate < 1e30,
      "[train_loop] schedule({}) is {}, which makes a learning rate of {}; expected a factor >= 0 that keeps "
      "it below 1e30, for updates counted from 1",
      update, factor, rate);
  return rate;
}

/// Everything that the device does for a mini-batch.
void TrainLoop::enqueue(const std::shared_ptr<const void>& batch, bool updates) {
  const bool with_update = updates && update_handlers_.empty();
  const auto work = [&](const void* at) {
    accumulate_loss(differentiate(at), parameters_);
    if (with_update)
      update();
    else if (graphs_ || updates)
      parameters_.zero_unwritten_gradients();
  };
  if (graphs_) {
    std::vector<int64_t> key = batch_calls_.layout(batch.get());
    key.insert(key.end(), {with_update, state_.accumulated == 0, parameters_.revision()});
    graphs_->run({std::move(key), batch, [&] { return batch_calls_.copy(batch.get()); },
                  [&](void* copy) { batch_calls_.refill(copy, batch.get()); }, work});
  } else {
    work(batch.get());
  }
  // A graph leaves no marks; handlers find all gradients complete, and what they write stays.
  if (graphs_ || (updates && !with_update)) parameters_.mark_gradients_written();
  if (updates && !with_update) {
    for (const auto& handler : update_handlers_) handler(parameters_);
    update();
  }
  if (updates) parameters_.clear_gradients();
}

/// Forward and backward.
TokenLoss TrainLoop::differentiate(const void* batch) {
  Tape tape;
  const TokenLoss loss = batch_calls_.loss(batch);
  const Device device = detail::check_token_loss("train_loop", loss);
  LIBTRAIN_CHECK(device == parameters_.device(), "[train_loop] the loss is on {}, the parameters are on {}; see {}",
                 name(device), name(parameters_.device()), "Batch::to()");
  if (!loss.sum.requires_grad()) {
    LIBTRAIN_CHECK(
        all_frozen(parameters_),
        "[train_loop] the loss depends on no parameter that is to be learnt, so that updates would not lower "
        "it; compute it from these parameters by operations, without NoTape, detach() and values read on "
        "the host, or freeze() them all");
    return loss;
  }
  const detail::SideStreamScope beside(side_.get());
  if (loss.sum.dtype() == one_.dtype() && loss.sum.rank() == 0)
    tape.backward(loss.sum, one_);
  else
    tape.backward(loss.sum);
  return loss;
}

/// What can fail for want of memory once an update is made fails here, before it.
void TrainLoop::make_room() {
  under_way_.reserve(under_way_.size() + 1);
  reports_.reserve(reports_.size() + under_way_.size() + 1);
  mailbox_.prepare();
}

void TrainLoop::update() {
  if (options_.clip_value > 0) clip_by_value(parameters_, options_.clip_value);
  clip_by_norm(parameters_, options_.clip_norm, true);
  std::function<void()> average;
  if (options_.average_decay > 0) average = average_update(parameters_, options_.average_decay);
  optimizer_.update(parameters_);
  if (average) average();
}

/// Completes the reports whose numbers have arrived, and waits until no more than `lag` are under way.
void TrainLoop::collect(size_t lag) {
  while (const auto letter = mailbox_.take(lag)) {
    const StepReport report = under_way_.front();
    under_way_.erase(under_way_.begin());
    letter->check_index();
    count(report, letter->state);
    if (report.updated && letter->state.skip == StepState::kHolds) stay_behind();
  }
}

/// Adds the time since the last call, or since the mini-batch began.
void TrainLoop::take_time() {
  const double now = seconds_now();
  seconds_ += now - std::exchange(clock_, now);
}

void TrainLoop::count(StepReport report, const StepState& state) {
  report.targets = state.batch_loss_count;
  report.loss = report.targets > 0 ? without_sign_of_nan(state.batch_loss_sum / double(report.targets)) : 0;
  if (report.updated) {
    report.skipped = state.skip != 0;
    report.gradient_norm = without_sign_of_nan(state.gradient_norm);
    report.learning_rate = state.learning_rate;
  }
  take_time();
  report.seconds = std::exchange(seconds_, 0);
  epoch_seconds_ += report.seconds;
  if (std::isfinite(state.batch_loss_sum)) {
    state_.epoch_loss_sum += state.batch_loss_sum;
    state_.epoch_targets += report.targets;
  }
  if (report.updated && !report.skipped) {
    updated_since_ = true;
    if (!options_.rewind) nonfinite_in_a_row_ = 0;
  }
  if (report.step <= update_began_.steps) {
    update_began_.epoch_loss_sum = state_.epoch_loss_sum;
    update_began_.epoch_targets = state_.epoch_targets;
  }
  reports_.push_back(report);
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

void TrainLoop::fire_reports() {
  while (!reports_.empty()) {
    const StepReport report = reports_.front();
    reports_.erase(reports_.begin());
    for (const auto& handler : step_handlers_) handler(report);
  }
}

void TrainLoop::fire_epoch() {
  if (const auto report = std::exchange(finished_epoch_, std::nullopt))
    for (const auto& handler : epoch_handlers_) handler(*report);
}

void TrainLoop::fire_checkpoint() {
  checkpoint_due_ = false;
  for (const auto& handler : checkpoint_handlers_) handler(state_);
  if (updated_since_) nonfinite_in_a_row_ = 0;
}

/// Back to the beginning of the open update: nothing of it counts. What was done before it does.
void TrainLoop::roll_back() {
  clock_ = seconds_now();
  for (size_t i = 0; const auto letter = mailbox_.take(0); ++i) {
    const StepReport report = under_way_[i];
    count(report, letter->state);
    if (report.updated && letter->state.skip == StepState::kHolds) stay_behind();
  }
  under_way_.clear();
  parameters_.clear_gradients();
  parameters_.open_update();
  state_ = update_began_;
  if (state_.batch == batches_)
    close_epoch();
  else
    batches_ = -1;
}

void TrainLoop::restore(const TrainState& state) {
  LIBTRAIN_CHECK(state.is_possible() && state.accumulated < options_.accumulate,
                 "[train_loop] cannot restore epoch {}, batch {}, step {}, update {} with {} accumulated mini-batches "
                 "of {}; pass what load_checkpoint() returned, to a loop with the same accumulate",
                 state.epoch, state.batch, state.steps, state.updates, state.accumulated, options_.accumulate);
  while (mailbox_.take(0)) {
  }
  under_way_.clear();
  reports_.clear();
  finished_epoch_.reset();
  seconds_ = epoch_seconds_ = 0;
  state_ = state;
  nonfinite_.reset();
  answered_.reset();
  nonfinite_in_a_row_ = 0;
  checkpoint_due_ = false;
  let_updates_through();
  has_begun_ = state.accumulated > 0;
  const StepState open = parameters_.step();
  update_began_ = state;
  update_began_.batch -= state.accumulated;
  update_began_.steps -= state.accumulated;
  update_began_.accumulated = 0;
  if (has_begun_ && std::isfinite(open.loss_sum)) {  // otherwise it is not known what of it counts in the epoch
    update_began_.epoch_loss_sum -= open.loss_sum;
    update_began_.epoch_targets -= open.loss_count;
  }
  batches_ = -1;
  if (state.accumulated > 0)
    parameters_.mark_gradients_written();
  else
    parameters_.clear_gradients();
}

}  // namespace libtrain
