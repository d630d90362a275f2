#include "libtrain/train_loop.h"

#include <chrono>

#include "kernels/token_loss.h"
#include "libtrain/optim/clip_by_norm.h"
#include "libtrain/optim/clip_by_value.h"
#include "libtrain/optim/moving_average.h"

namespace libtrain {
namespace {

/// Snapshots of the step state that may be under way before the host waits.
constexpr size_t kLag = 2;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// While alive, this thread enqueues on a loop's stream, behind what it enqueued before; afterwards on its own, behind that. Without a
/// stream (on the CPU) nothing happens.
class StreamOrder {
 public:
  explicit StreamOrder(const cuda::Stream* stream) {
    if (!stream) return;
    cuda::Event before;
    before.record();
    scope_.emplace(*stream);
    before.wait();
  }
  ~StreamOrder() {
    if (!scope_) return;
    try {
      cuda::Event after;
      after.record();
      scope_.reset();
      after.wait();
    } catch (const Error&) {
      // The device has failed: who waits for it next is told.
    }
  }
  StreamOrder(const StreamOrder&) = delete;

 private:
  std::optional<cuda::StreamScope> scope_;
};

[[noreturn]] void throw_bad_index(const BadIndex& found) {
  constexpr const char* kOps[] = {"", "embedding", "cross_entropy", "copy_rows"};
  cuda::take_bad_index();  // said once
  throw InvalidArgument(
      format_message("[{}] index {} at row {}{} is outside [0, {}), found on the device; the weights have not changed "
                     "since; check ids on the host, as make_batch() does",
                     kOps[found.op], found.value, found.row,
                     found.position >= 0 ? format_message(", position {}", found.position) : "", found.limit));
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
      options_(std::move(options)),
      mailbox_(parameters) {
  LIBTRAIN_CHECK(options_.epochs >= 0,
                 "[train_loop] epochs must be >= 0, got {}; max_updates can end a run of many epochs early",
                 options_.epochs);
  LIBTRAIN_CHECK(options_.max_updates >= 0, "[train_loop] max_updates must be >= 0 (0: no limit), got {}",
                 options_.max_updates);
  LIBTRAIN_CHECK(options_.accumulate >= 1,
                 "[train_loop] accumulate must be >= 1, got {}; 1 updates after every mini-batch", options_.accumulate);
  LIBTRAIN_CHECK(options_.clip_norm >= 0, "[train_loop] clip_norm must be >= 0 (0: no clipping), got {}",
                 options_.clip_norm);
  LIBTRAIN_CHECK(options_.clip_value >= 0, "[train_loop] clip_value must be >= 0 (0: no clipping), got {}",
                 options_.clip_value);
  LIBTRAIN_CHECK(options_.average_decay >= 0 && options_.average_decay < 1,
                 "[train_loop] average_decay must be in [0, 1), got {}; 0 leaves the average alone, 0.999 is usual",
                 options_.average_decay);
  LIBTRAIN_CHECK(options_.average_decay == 0 || parameters.options().average,
                 "[train_loop] average_decay is {}, but the store keeps no average; make it with {}",
                 options_.average_decay, ".average = true");
  LIBTRAIN_CHECK(options_.checkpoint_every >= 0,
                 "[train_loop] checkpoint_every must be >= 0 (0: only at the end), got {}", options_.checkpoint_every);
  LIBTRAIN_CHECK(options_.schedule != nullptr, "[train_loop] schedule is empty; constant_schedule() is the default");
  optimizer_ = options_.optimizer ? *options_.optimizer : adam(options_.adam);
  LIBTRAIN_CHECK(optimizer_.update, "[train_loop] the optimizer has no {} function; adam() and sgd() make whole ones",
                 "update");
  LIBTRAIN_CHECK(optimizer_.learning_rate > 0 && optimizer_.learning_rate < 1e30,
                 "[train_loop] the optimizer's learning_rate must be > 0 and < 1e30, got {}; set it beside update",
                 optimizer_.learning_rate);
  if (parameters_.device() == Device::kCuda) stream_ = std::make_unique<cuda::Stream>();
  parameters_.clear_gradients();
}

bool TrainLoop::complete() const {
  return state_.epoch >= options_.epochs || (options_.max_updates > 0 && state_.updates >= options_.max_updates);
}

bool TrainLoop::run() {
  const StreamOrder order(stream_.get());
  while (!stop_requested_ && step_here()) {
  }
  clock_ = seconds_now();
  collect(0);
  fire_reports();
  fire_checkpoint();
  return complete();
}

bool TrainLoop::step() {
  const StreamOrder order(stream_.get());
  return step_here();
}

bool TrainLoop::step_here() {
  fire_reports();  // left over when a handler threw
  fire_epoch();
  if (complete()) {
    clock_ = seconds_now();
    collect(0);
    fire_reports();
    return false;
  }
  const int64_t updates = state_.updates;
  bool save = false;
  try {
    clock_ = seconds_now();
    open_epoch();
    train_batch();
    save = options_.checkpoint_every > 0 && state_.updates > updates && state_.updates % options_.checkpoint_every == 0;
    if (checkpoint_requested_.exchange(false)) save = true;
    collect(save || state_.batch == batches_ ? 0 : kLag);
    take_time();
  } catch (...) {
    roll_back();
    throw;
  }
  if (state_.batch == batches_) close_epoch();
  fire_reports();
  fire_epoch();
  if (save) fire_checkpoint();
  return true;
}

void TrainLoop::open_epoch() {
  if (batches_ >= 0) return;
  const int64_t batches = begin_epoch_(state_.epoch);
  LIBTRAIN_CHECK(batches > state_.batch,
                 "[train_loop] epoch {} has {} batches, cannot start at batch {}; give it the data that it was saved "
                 "with, and never none",
                 state_.epoch, batches, state_.batch);
  batches_ = batches;
}

void TrainLoop::train_batch() {
  parameters_.set_random_step(uint64_t(state_.steps));
  {
    Tape tape;
    const TokenLoss loss = forward_(state_.batch);
    if (loss.sum.requires_grad()) tape.backward(loss.sum);
    accumulate_loss(loss, parameters_);
  }
  StepReport report;
  report.epoch = state_.epoch;
  report.batch = state_.batch++;
  report.batches = batches_;
  report.step = ++state_.steps;
  ++state_.accumulated;
  if (state_.accumulated == options_.accumulate || state_.batch == batches_) update(report);
  mailbox_.post();
  under_way_.push_back(report);
}

void TrainLoop::update(StepReport& report) {
  for (const auto& handler : update_handlers_) handler(parameters_);
  parameters_.set_learning_rate(optimizer_.learning_rate * options_.schedule(state_.updates + 1));
  if (options_.clip_value > 0) clip_by_value(parameters_, options_.clip_value);
  clip_by_norm(parameters_, options_.clip_norm);
  optimizer_.update(parameters_);
  if (options_.average_decay > 0) update_average(parameters_, options_.average_decay);
  parameters_.clear_gradients();
  report.updated = true;
  report.updates = ++state_.updates;
  state_.accumulated = 0;
  update_began_ = state_;
}

/// Completes the reports whose numbers have arrived, and waits until no more than `lag` are under way.
void TrainLoop::collect(size_t lag) {
  while (const auto letter = mailbox_.take(lag)) {
    const StepReport report = under_way_.front();
    under_way_.pop_front();
    if (letter->bad_index.op != BadIndex::kNone) throw_bad_index(letter->bad_index);
    count(report, letter->state);
  }
}

/// Adds the time since the last call, or since the mini-batch began.
void TrainLoop::take_time() {
  const double now = seconds_now();
  seconds_ += now - std::exchange(clock_, now);
}

void TrainLoop::count(StepReport report, const StepState& state) {
  report.targets = state.batch_loss_count;
  report.loss = report.targets > 0 ? state.batch_loss_sum / double(report.targets) : 0;
  if (report.updated) {
    report.skipped = state.skip != 0;
    report.gradient_norm = state.gradient_norm;
    report.learning_rate = state.learning_rate;
  }
  take_time();
  report.seconds = std::exchange(seconds_, 0);
  epoch_seconds_ += report.seconds;
  state_.epoch_loss_sum += state.batch_loss_sum;
  state_.epoch_targets += report.targets;
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
    reports_.pop_front();
    for (const auto& handler : step_handlers_) handler(report);
  }
}

void TrainLoop::fire_epoch() {
  if (const auto report = std::exchange(finished_epoch_, std::nullopt))
    for (const auto& handler : epoch_handlers_) handler(*report);
}

void TrainLoop::fire_checkpoint() {
  for (const auto& handler : checkpoint_handlers_) handler(state_);
}

/// Back to the beginning of the open update: nothing of it counts. What was done before it does.
void TrainLoop::roll_back() {
  clock_ = seconds_now();
  while (const auto letter = mailbox_.take(0)) {
    count(under_way_.front(), letter->state);
    under_way_.pop_front();
  }
  parameters_.clear_gradients();
  StepState step = parameters_.step();
  step.loss_sum = 0;
  step.loss_count = 0;
  parameters_.set_step(step);
  state_ = update_began_;
  batches_ = -1;
}

void TrainLoop::restore(const TrainState& state) {
  LIBTRAIN_CHECK(state.epoch >= 0 && state.batch >= 0 && state.steps >= 0 && state.updates >= 0 &&
                     state.accumulated >= 0 && state.accumulated < options_.accumulate,
                 "[train_loop] cannot restore epoch {}, batch {}, step {}, update {} with {} accumulated mini-batches "
                 "of {}; pass what load_checkpoint() returned, to a loop with the same accumulate",
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
