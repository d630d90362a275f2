/// The training loop: mini-batch → forward (teacher forcing) → loss per token → backward → clip → optimizer step, and at the end of an
/// epoch the average loss per token. Everything else (validation, logging, checkpoints) hangs on it as events.
///
///   TrainLoop loop(parameters, batches, [&](const Batch& batch) { return model.loss(batch); },
///                  {.epochs = 10, .clip_norm = 1, .adam = {.learning_rate = 1e-3}, .schedule = inverse_sqrt_schedule(200)});
///   loop.on_epoch([](const EpochReport& r) { std::printf("epoch %ld: %.4f\n", r.epoch, r.loss); });
///   loop.run();
#pragma once
#include <atomic>
#include <functional>
#include <optional>
#include <vector>

#include "libtrain/data/batch_source.h"
#include "libtrain/nonfinite.h"
#include "libtrain/ops/cross_entropy.h"
#include "libtrain/optim/adam.h"
#include "libtrain/optim/schedule.h"
#include "libtrain/side_stream.h"
#include "libtrain/step_graphs.h"
#include "libtrain/step_mailbox.h"

namespace libtrain {

namespace detail {

/// What a loop does with the batches of its source, whatever their type.
struct BatchCalls {
  std::function<int64_t(int64_t epoch)> begin_epoch;
  std::function<std::shared_ptr<const void>(int64_t index)> get;
  std::function<TokenLoss(const void* batch)> loss;
  // For graphs; empty when batches of this type have no layout() and copy_from().
  std::function<std::vector<int64_t>(const void* batch)> layout;
  std::function<std::shared_ptr<void>(const void* batch)> copy;
  std::function<void(void* copy, const void* batch)> refill;
};

}  // namespace detail

/// Options of a TrainLoop. The defaults: one epoch of Adam at a constant rate, without clipping.
struct TrainOptions {
  /// Passes over the data. Default 1. >= 0.
  int64_t epochs = 1;
  /// Stop after so many optimizer updates, skipped ones and those before resuming included. 0, the default: only epochs count.
  int64_t max_updates = 0;
  /// Mini-batches whose gradients are added up before an update; the result equals one batch of them all. Default 1. The last update of an
  /// epoch may have fewer.
  int64_t accumulate = 1;
  /// Largest norm of the mean gradient, finite; longer ones are scaled down to it. 0, the default: no clipping.
  double clip_norm = 0;
  /// Largest element of the mean gradient, in absolute value and finite; larger ones are cut off, before the norm is taken. 0, the default: none.
  double clip_value = 0;
  /// For the default optimizer; not looked at when `optimizer` is given.
  AdamOptions adam = {};
  /// sgd({…}), or one of your own. Left empty, the default: adam(adam).
  std::optional<Optimizer> optimizer = std::nullopt;
  /// Factor on the optimizer's learning_rate for each update. Default: 1 throughout.
  Schedule schedule = constant_schedule();
  /// Share of the running average of the weights that an update keeps, in [0, 1), for a store that keeps one (ParametersOptions::average).
  /// 0, the default: the average is left alone.
  double average_decay = 0;
  /// Fire on_checkpoint after every so many updates. 0, the default: only when run() ends.
  int64_t checkpoint_every = 0;
  /// On a CUDA device: enqueue each mini-batch as one graph, captured when a layout of a batch is seen for the second time. Eager and
  /// captured steps have the same bits. `loss` is then called only to be captured: what it does must depend on the layout of the batch alone,
  /// and it must neither wait for the device nor copy from or to the host. BatchOptions' multiples keep layouts few. While on_update has
  /// handlers, the update behind them is enqueued kernel by kernel. On the CPU nothing is done. The type of the batches must have layout(),
  /// copy_from() and to(), as Batch has; otherwise the loop's constructor throws, on any device. Default false.
  bool graphs = false;
  /// On a CUDA device: products that make gradients of weights run on a second stream, beside the rest of backward, eagerly and in graphs, with
  /// the same bits. For devices that one product leaves partly idle, as small models and batches do. It takes memory: what up to four operations
  /// of backward have read and made is kept as many operations longer, and each stream has its own workspace for products (32 MiB). A weight
  /// that is used many times in a step, as a recurrent cell's, gains nothing. On an H200 it took about 1 % off the steps of a transformer of 77
  /// million parameters, and nothing off those of one of 242 million. On the CPU nothing is done. Default false.
  bool weight_gradient_stream = false;
  /// An update whose loss or gradient is not finite changes nothing and is told to on_nonfinite. After so many in a row the loop throws Diverged.
  /// Default 20. 1: at the first. 0: never.
  int64_t nonfinite_limit = 20;
  /// What is done about one, before the limit. Empty, the default: training goes on with the next mini-batch. Otherwise this function, which
  /// brings the store back to an earlier state, as load_checkpoint() does, and returns true (or changes nothing and returns false, when there is
  /// none). Training then goes on with those weights and the mini-batches that follow: those since that state are not used again, or the
  /// same would happen again (Chowdhery et al. 2022, section 5.1). The counts of mini-batches and updates and the schedule do not go back. With
  /// a rewind, the count of updates in a row starts anew only when an update has been made and a checkpoint saved.
  std::function<bool(const NonFiniteReport&)> rewind = {};
};

/// One mini-batch.
struct StepReport {
  int64_t step = 0;     // mini-batches so far, this one included
  int64_t epoch = 0;    // counted from 0
  int64_t batch = 0;    // within the epoch, counted from 0
  int64_t batches = 0;  // in the epoch
  double loss = 0;      // mean per target of this mini-batch; 0 when no target counts
  int64_t targets = 0;  // that count
  /// Whether this mini-batch completed an update; the fields below describe it, and are 0 otherwise.
  bool updated = false;
  bool skipped = false;  // the update changed nothing: no targets in it, or a loss or gradient that was not finite
  int64_t batches_of_update = 0;  // mini-batches whose gradients it added up
  int64_t updates = 0;            // attempted so far, skipped ones included
  double gradient_norm = 0;       // of the mean loss, before clip_norm and behind clip_value
  double learning_rate = 0;       // of the update, schedule included; groups have their factors on it
  double seconds = 0;             // spent on the loop, without events, since the report before
};

/// One pass over the data.
struct EpochReport {
  int64_t epoch = 0;    // counted from 0
  double loss = 0;      // mean per target over all mini-batches of the epoch whose loss is finite
  int64_t targets = 0;  // that count, over the same
  int64_t steps = 0;    // mini-batches so far
  int64_t updates = 0;  // attempted so far
  double seconds = 0;   // of training, without the time spent in events
};

/// Where a loop stands, between two mini-batches. Together with the contents of Parameters it is all that a resumed run needs.
struct TrainState {
  int64_t epoch = 0;          // being trained, counted from 0
  int64_t batch = 0;          // next one of the epoch
  int64_t steps = 0;          // mini-batches so far
  int64_t updates = 0;        // attempted so far
  int64_t accumulated = 0;    // mini-batches whose gradients wait for the next update
  double epoch_loss_sum = 0;  // since the epoch began, of mini-batches whose loss is finite
  int64_t epoch_targets = 0;  // likewise, those that count

  /// Whether a loop can stand there: no number is negative, and 0 <= accumulated <= batch <= steps.
  bool is_possible() const {
    return epoch >= 0 && updates >= 0 && epoch_targets >= 0 && 0 <= accumulated && accumulated <= batch &&
           batch <= steps;
  }
};

/// Trains the parameters of one store. Several loops may live in a process, each with a store of its own. Not thread-safe, except
/// request_stop() and request_checkpoint().
///
/// After an exception from data, model, schedule, rewind or a handler of on_update the loop stands where the open update began, with no gradient
/// accumulated. Other handlers are called between mini-batches: after an exception from one of them the loop stands behind the last mini-batch.
/// Either way it may go on. What was still to be told by then (the end of an epoch, a checkpoint that is due) comes before the next mini-batch.
/// A handler that is empty is refused with InvalidArgument where it is given.
///
/// On a CUDA device the host runs ahead and never waits within an epoch. So on_step is fired up to two mini-batches late, but before on_epoch,
/// on_checkpoint and the end of run(). The loop enqueues on a stream of its own, on which events are fired too; around each call it is ordered
/// with the caller's stream. A token id outside its table that only a kernel could see throws InvalidArgument, up to two mini-batches late:
/// updates from that mini-batch on have changed nothing. Updates behind one that is not finite change nothing either, until the host has seen
/// it. Their mini-batches are then done again, so that the weights are those of a loop that waits.
class TrainLoop {
 public:
  using Options = TrainOptions;  // what the constructor takes

  /// Trains on batches of `source` to minimise loss(batch), which returns a TokenLoss (averaged over all targets of an update) or a scalar
  /// Tensor (averaged over the mini-batches of an update). Parameters, source and whatever `loss` refers to must outlive the loop. A loss that
  /// depends on no parameter that is to be learnt is refused with InvalidArgument at its mini-batch, unless all are frozen: leave out a batch
  /// that has nothing to learn from.
  /// Throws InvalidArgument naming the first option that is out of range, or the optimizer that the store's moments belong to when it is another.
  template <class BatchType, class Loss>
  TrainLoop(Parameters& parameters, BatchSource<BatchType>& source, Loss loss, Options options = {});

  /// Trains until epochs or max_updates are reached or a stop is requested, then fires on_checkpoint once. True when training is complete.
  bool run();
  /// One mini-batch, with an update when it completes one. False, without doing anything, when training is complete.
  bool step();
  /// Makes run() return after the current mini-batch, or the next run() at once when none is under way. When that run() has returned the request
  /// is answered: another run() goes on training. May be called from any thread and from signal handlers.
  void request_stop() { stop_requested_ = true; }
  /// Whether a stop is requested that no run() has answered yet: for programs that call step().
  bool stop_requested() const { return stop_requested_; }
  /// Fires on_checkpoint after the current mini-batch, once, and goes on. May be called from any thread and from signal handlers.
  void request_checkpoint() { checkpoint_requested_ = true; }
  /// Whether epochs or max_updates are reached.
  bool complete() const;

  /// After every mini-batch. Gradients that a handler makes of these parameters are forgotten where an update begins, and count in one that is
  /// open (TrainOptions::accumulate).
  void on_step(std::function<void(const StepReport&)> handler) {
    add_handler("on_step", step_handlers_, std::move(handler));
  }
  /// After the last mini-batch of every epoch.
  void on_epoch(std::function<void(const EpochReport&)> handler) {
    add_handler("on_epoch", epoch_handlers_, std::move(handler));
  }
  /// When an update was not finite: after on_step, before what follows from it (see TrainOptions::nonfinite_limit).
  void on_nonfinite(std::function<void(const NonFiniteReport&)> handler) {
    add_handler("on_nonfinite", nonfinite_handlers_, std::move(handler));
  }
  /// Before every update, when the gradients of the summed loss are complete: divide by loss_count of the step state for the mean.
  void on_update(std::function<void(const Parameters&)> handler) {
    add_handler("on_update", update_handlers_, std::move(handler));
  }
  /// Every checkpoint_every updates, when asked for, and when run() ends: save parameters and state.
  void on_checkpoint(std::function<void(const TrainState&)> handler) {
    add_handler("on_checkpoint", checkpoint_handlers_, std::move(handler));
  }

  /// After the last mini-batch. On a CUDA device epoch_loss_sum and epoch_targets may be two mini-batches behind.
  const TrainState& state() const { return state_; }
  /// Goes on from a state that was saved together with the parameters, which must have been restored before. When it lies within an
  /// accumulation, the gradients must have been restored too. What was still to be told of the time before is told to nobody. Throws
  /// InvalidArgument for a state in which no loop with these options can be.
  void restore(const TrainState& state);

 private:
  template <class Handler> static void add_handler(const char* event, std::vector<Handler>& handlers, Handler handler) {
    LIBTRAIN_CHECK(handler, "[train_loop] {} got an empty handler; leave the call out", event);
    handlers.push_back(std::move(handler));
  }
  TrainLoop(Parameters& parameters, detail::BatchCalls batches, Options options);
  bool step_here();
  void settle();
  void open_epoch();
  void train_batch();
  void begin_update();
  double learning_rate_of(int64_t update) const;
  void enqueue(const std::shared_ptr<const void>& batch, bool completes_update);
  TokenLoss differentiate(const void* batch);
  void update();
  void make_room();
  void collect(size_t lag);
  void count(StepReport report, const StepState& state);
  void stay_behind();
  void answer_nonfinite();
  bool rewind(const NonFiniteReport& report);
  void let_updates_through();
  void take_time();
  void close_epoch();
  void fire_reports();
  void fire_nonfinite();
  void fire_epoch();
  void fire_checkpoint();
  void roll_back();

  const Parameters& parameters_;
  detail::BatchCalls batch_calls_;
  Options options_;
  Optimizer optimizer_;
  TrainState state_, update_began_;  // now, and when the open update began
  int64_t batches_ = -1;             // in the open epoch; -1: it must be opened
  bool has_begun_ = false;           // an update, since the loop was made or restored to where none was open
  StepMailbox mailbox_;
  std::vector<StepReport> under_way_;        // one for each snapshot in the mailbox
  std::vector<StepReport> reports_;          // complete, not yet told to the handlers
  std::optional<StepReport> nonfinite_;      // an update that was not finite, not yet answered
  std::optional<NonFiniteReport> answered_;  // likewise, not yet told
  int64_t nonfinite_in_a_row_ = 0;
  bool updated_since_ = false;                 // after the last of them
  std::optional<EpochReport> finished_epoch_;  // likewise
  bool checkpoint_due_ = false;                // asked for or after so many updates, not yet told
  double clock_ = 0;                           // when time was last taken
  double seconds_ = 0, epoch_seconds_ = 0;     // since the last report; since the epoch began
  std::unique_ptr<cuda::Stream> stream_;       // on a CUDA device
  std::unique_ptr<detail::SideStream> side_;   // likewise, when asked for
  std::unique_ptr<StepGraphs> graphs_;         // likewise, when asked for
  Tensor one_;                                 // the gradient that backward begins with
  std::atomic<bool> stop_requested_ = false, checkpoint_requested_ = false;
  std::vector<std::function<void(const StepReport&)>> step_handlers_;
  std::vector<std::function<void(const EpochReport&)>> epoch_handlers_;
  std::vector<std::function<void(const NonFiniteReport&)>> nonfinite_handlers_;
  std::vector<std::function<void(const Parameters&)>> update_handlers_;
  std::vector<std::function<void(const TrainState&)>> checkpoint_handlers_;
};

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {
inline TokenLoss as_token_loss(TokenLoss loss) { return loss; }
inline TokenLoss as_token_loss(const Tensor& scalar) {
  return {scalar, Tensor::full({}, 1, DType::i64, scalar.device())};
}

template <class BatchType, class Loss> BatchCalls batch_calls(BatchSource<BatchType>& source, Loss loss) {
  const auto batch_at = [](const void* batch) -> const BatchType& { return *static_cast<const BatchType*>(batch); };
  BatchCalls calls;
  calls.begin_epoch = [&source](int64_t epoch) { return source.begin_epoch(epoch); };
  calls.get = [&source](int64_t index) { return std::make_shared<const BatchType>(source.get(index)); };
  calls.loss = [=](const void* batch) { return as_token_loss(loss(batch_at(batch))); };
  if constexpr (requires(BatchType kept, const BatchType& batch) {
                  kept.copy_from(batch);
                  batch.layout();
                  batch.to(Device::kCuda);
                }) {
    calls.layout = [=](const void* batch) { return batch_at(batch).layout(); };
    calls.copy = [=](const void* batch) { return std::make_shared<BatchType>(batch_at(batch).to(Device::kCuda)); };
    calls.refill = [=](void* copy, const void* batch) { static_cast<BatchType*>(copy)->copy_from(batch_at(batch)); };
  }
  return calls;
}
}  // namespace detail

template <class BatchType, class Loss>
TrainLoop::TrainLoop(Parameters& parameters, BatchSource<BatchType>& source, Loss loss, Options options)
    : TrainLoop(parameters, detail::batch_calls(source, std::move(loss)), std::move(options)) {}

}  // namespace libtrain
