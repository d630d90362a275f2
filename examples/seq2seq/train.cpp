#include "examples/seq2seq/train.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <memory>
#include <numeric>

#include "examples/seq2seq/command_line.h"
#include "examples/seq2seq/evaluate.h"
#include "examples/seq2seq/progress.h"
#include "examples/seq2seq/saver.h"
#include "examples/seq2seq/signals.h"
#include "examples/seq2seq/validation.h"
#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/loss_spikes.h"
#include "libtrain/memory_plan.h"

namespace seq2seq {
namespace {

using libtrain::Batch;
using libtrain::format_message;
using libtrain::TrainLoop;

// ---- Before training ------------------------------------------------------------------------------------------------------

/// Holds a run's folder for one process; the kernel lets it go when the process ends, however it does.
class FolderLock {
 public:
  /// Where file systems have no locks for folders, and where there is no folder, nothing is held. Throws libtrain::InvalidArgument when another
  /// process trains there.
  explicit FolderLock(const std::string& folder) : folder_(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (folder_ < 0 || flock(folder_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    close(folder_);
    throw libtrain::InvalidArgument(
        format_message("--out {}: another run trains there now; wait for its end, or choose another folder", folder));
  }
  ~FolderLock() {
    if (folder_ >= 0) close(folder_);
  }
  FolderLock(const FolderLock&) = delete;

 private:
  int folder_;
};

/// Fails before the first step rather than at the first checkpoint. What a kill leaves of the probe, the next save removes.
void check_output_folder(const Options& options) {
  libtrain::FileSystem& files = libtrain::real_file_system();
  const std::string probe = format_message("{}/{}.tmp-{}", options.out, libtrain::kLatestFile, getpid());
  try {
    libtrain::make_directories(files, options.out);
    libtrain::write_file(files, probe, {});
    files.remove_file(probe);
  } catch (const libtrain::IoError& error) {
    throw libtrain::IoError(format_message("--out {}: {}", options.out, error.what()));
  }
}

void check_holds_no_run(const Options& options) {
  if (!libtrain::complete_checkpoints(options.out).empty())
    throw libtrain::InvalidArgument(format_message(
        "--out {} holds a run already; go on with it (--resume), or choose another folder", options.out));
}

void print_line(const char* what, const std::string& text) { std::fprintf(stderr, "%-7s %s\n", what, text.c_str()); }

void print_header(const TrainedModel& model, const Task& task, const libtrain::TrainOptions& train, int64_t batches,
                  const Options& options) {
  print_line("seq2seq", format_message("libtrain {}, {}, seed {}", libtrain::kVersion,
                                       libtrain::describe(model.parameters.device()), options.seed));
  print_line("data", format_message("{}: {}, {} to validate, {} to test; vocabularies {} and {}", task.name,
                                    counted(int64_t(task.train.size()), "pair"),
                                    with_commas(int64_t(task.valid.size())), with_commas(int64_t(task.test.size())),
                                    task.codec.source.size(), task.codec.target.size()));
  if (task.blank_lines) print_line("", format_message("blank lines skipped: {}", task.blank_lines));
  if (task.rare_symbols)
    print_line("", format_message("rare symbols, left out of the vocabularies, in the training pairs: {}",
                                  with_commas(task.rare_symbols)));
  if (task.unknown_symbols)
    print_line("", format_message("unknown symbols, not in the vocabularies, in the pairs to validate and test: {}",
                                  with_commas(task.unknown_symbols)));
  print_line("model",
             format_message("transformer {}+{}, size {}, {}, feed-forward {}: {} parameters", options.encoder_layers,
                            options.decoder_layers, options.size, counted(options.heads, "head"), options.feed_forward,
                            with_commas(model.parameters.count())));
  print_line(
      "plan",
      format_message("{} of {}{}, checkpoints in {}", counted(options.epochs, "epoch"), counted(batches, "mini-batch"),
                     train.max_updates ? format_message(", at most {}", counted(train.max_updates, "update")) : "",
                     options.out));
  if (const int64_t updates = planned_updates(options, batches); options.warmup >= updates && updates > 0)
    print_line("", format_message("the warm-up of {} takes the whole run of {}; shorten it with --warmup",
                                  counted(options.warmup, "update"), counted(updates, "update")));
}

/// Tells what the run will need, or that it cannot have it. Probing goes before restore(): it overwrites gradients that wait for an update.
void plan_memory(TrainedModel& model, libtrain::BucketedBatches& batches, const Options& options) {
  const auto plan = libtrain::plan_memory(model.parameters, batches,
                                          [&](const Batch& batch) { return model.transformer.loss(batch); },
                                          {.epochs = options.epochs, .limit = options.memory_limit << 20});
  print_line("memory", plan.summary());
  plan.check(options.resume ? "a new run with --batch-tokens" : "--batch-tokens");
}

/// What the newest checkpoint says of a run that goes on.
struct Resumed {
  Options options;
  Codec codec;
  DataId data;
  Validations validations;
  std::string checkpoint;
  libtrain::TrainState state;
};

Resumed resumed_run(const Options& given) {
  const libtrain::Checkpoint checkpoint = libtrain::read_checkpoint(newest_good_checkpoint(given.out));
  const auto& [program, path] = std::tie(checkpoint.program, checkpoint.path);
  return {options_to_resume(given, options_json(program, path)),
          codec_from_json(program, path),
          data_id_from_json(program, path),
          validations_from_json(program, path),
          path,
          checkpoint.state};
}

// ---- While training -------------------------------------------------------------------------------------------------------

/// Seconds and tokens of this process's training, for display and result.
struct Meter {
  double seconds = 0, recent = 0;  // recent: smoothed tokens per second
  int64_t tokens = 0, updates = 0;

  void add(const libtrain::StepReport& step) {
    seconds += step.seconds;
    tokens += step.targets;
    updates += step.updated;
    const double now = double(step.targets) / std::max(step.seconds, 1e-9);
    recent = recent > 0 ? 0.98 * recent + 0.02 * now : now;
  }
  double tokens_per_second() const { return seconds > 0 ? double(tokens) / seconds : -1; }
};

/// For --on-nonfinite rewind.
bool load_newest(const Options& options, const TrainedModel& model) {
  if (libtrain::complete_checkpoints(options.out).empty()) return false;
  libtrain::load_checkpoint(newest_good_checkpoint(options.out), model.parameters);
  return true;
}

/// Everything that hangs on the loop: display, validation, checkpoints.
class Events {
 public:
  Events(TrainLoop& loop, TrainedModel& model, const Task& task, const libtrain::BucketedBatches& training,
         const Options& options, int64_t planned, const std::optional<Resumed>& resumed, SignalScope& signals);

  /// loop.run(), with the bar on the screen. `command`: what goes on with the run from then on.
  void run(const std::string& command);

  /// For a run that goes on: the validation that a stop has not waited for, or that failed.
  void make_up();
  /// Whether --patience is at its end.
  bool exhausted() const { return options_.patience > 0 && validations_.without_gain >= options_.patience; }

  const Meter& meter() const { return meter_; }
  const Saver& saver() const { return saver_; }

 private:
  void step(const libtrain::StepReport& step);
  void epoch(const libtrain::EpochReport& epoch);
  void checkpoint(const libtrain::TrainState& state);
  void nonfinite(const libtrain::NonFiniteReport& report);
  bool is_last() const { return loop_.complete() || loop_.stop_requested(); }
  bool is_time(const libtrain::TrainState& state) const;
  bool must_validate(const libtrain::TrainState& state) const;
  double validate(const libtrain::TrainState& state);
  void validate_and_save(const libtrain::TrainState& state);
  void save_if_best(const libtrain::TrainState& state);
  void stop_if_exhausted();

  /// What validation gave for this state, if this process made it.
  std::optional<double> loss_of(const libtrain::TrainState& state) const {
    return validations_.last == state.updates ? last_loss_ : std::nullopt;
  }

  TrainLoop& loop_;
  TrainedModel& model_;
  const Options& options_;
  int64_t planned_;
  SignalScope& signals_;
  std::optional<libtrain::BucketedBatches> validation_;
  ProgressDisplay display_;
  Saver saver_;
  Meter meter_;
  libtrain::LossSpikes spikes_;
  Validations validations_;
  std::optional<double> last_loss_;  // of the last of them; nothing where an earlier process made it
};

Events::Events(TrainLoop& loop, TrainedModel& model, const Task& task, const libtrain::BucketedBatches& training,
               const Options& options, int64_t planned, const std::optional<Resumed>& resumed, SignalScope& signals)
    : loop_(loop),
      model_(model),
      options_(options),
      planned_(planned),
      signals_(signals),
      display_(options.log_every),
      saver_(
          options, model,
          [this, data = data_id(task.train)] { return program_json(options_, model_.codec, data, validations_); },
          [this](const std::string& line) { display_.line(line); }, resumed ? resumed->state.steps : -1),
      validations_(resumed ? resumed->validations : Validations()) {
  if (!task.valid.empty())
    validation_.emplace(task.valid, validation_batches(task.valid, training, model.parameters.device()));
  loop.on_step([this](const libtrain::StepReport& report) { step(report); });
  loop.on_epoch([this](const libtrain::EpochReport& report) { epoch(report); });
  loop.on_checkpoint([this](const libtrain::TrainState& state) { checkpoint(state); });
  loop.on_nonfinite([this](const libtrain::NonFiniteReport& report) { nonfinite(report); });
}

void Events::run(const std::string& command) {
  signals_.run(loop_, command);
  display_.clear();
}

void Events::step(const libtrain::StepReport& step) {
  meter_.add(step);
  if (const auto spike = spikes_.add(step.loss); spike && std::isfinite(step.loss))
    display_.line(format_message("warning: update {}: {}", step.updates, spike->str()));
  if (!step.updated) return;
  const double left = meter_.seconds / double(meter_.updates) * double(planned_ - step.updates);
  display_.update(
      {step.updates, planned_, step.epoch + 1, step.loss, step.learning_rate, step.gradient_norm, meter_.recent, left});
}

void Events::epoch(const libtrain::EpochReport& epoch) {
  const std::string valid = validation_ ? format_message(", valid {:.4f}", validate(loop_.state())) : "";
  display_.line(format_message("epoch {}: loss per token {:.4f}{}", epoch.epoch + 1, epoch.loss, valid));
  save_if_best(loop_.state());
  stop_if_exhausted();
}

/// The loop comes here for validations too (pause_every). After each time it counts updates that are not finite anew, and with a rewind that
/// needs a checkpoint.
void Events::checkpoint(const libtrain::TrainState& state) {
  if (must_validate(state)) {
    validate_and_save(state);
    stop_if_exhausted();
  }
  const bool due = options_.on_nonfinite == "rewind" ||
                   (options_.checkpoint_every > 0 && state.updates % options_.checkpoint_every == 0);
  const bool asked = signals_.take_save_request();
  const auto loss = loss_of(state);
  const auto score = loss && std::isfinite(*loss) ? loss : std::nullopt;
  if (due || asked || is_last()) saver_.save(state, score, is_last());
}

bool Events::is_time(const libtrain::TrainState& state) const {
  return options_.valid_every > 0 && state.updates % options_.valid_every == 0;
}

/// Every --valid-every updates, and at the end of a run that ends within an epoch. A stop does not wait for it.
bool Events::must_validate(const libtrain::TrainState& state) const {
  if (!validation_ || loss_of(state) || meter_.updates == 0 || loop_.stop_requested()) return false;
  return loop_.complete() || is_time(state);
}

void Events::make_up() {
  const libtrain::TrainState& state = loop_.state();
  const bool epoch_ended = state.epoch > 0 && state.batch == 0;
  if (!validation_ || validations_.last == state.updates || state.updates == 0) return;
  if (epoch_ended || (is_time(state) && state.accumulated == 0)) validate_and_save(state);
}

/// What was trained is not lost when it fails.
double Events::validate(const libtrain::TrainState& state) {
  if (const auto loss = loss_of(state)) return *loss;
  try {
    const UsedWeights used(model_);
    const double loss = validation_loss(model_, *validation_);
    validations_ = {state.updates, saver_.is_best(loss) ? 0 : validations_.without_gain + 1};
    last_loss_ = loss;
    return loss;
  } catch (...) {
    saver_.save(state, std::nullopt, true);
    throw;
  }
}

void Events::validate_and_save(const libtrain::TrainState& state) {
  display_.line(format_message("update {}: valid {:.4f}", with_commas(state.updates), validate(state)));
  save_if_best(state);
}

void Events::save_if_best(const libtrain::TrainState& state) {
  if (const auto loss = loss_of(state); loss && saver_.is_best(*loss)) saver_.save(state, loss, is_last());
}

void Events::stop_if_exhausted() {
  if (is_last() || !exhausted()) return;
  display_.line(
      format_message("training ends: {} brought no lower loss (--patience)", counted(options_.patience, "validation")));
  loop_.request_stop();
}

void Events::nonfinite(const libtrain::NonFiniteReport& report) {
  display_.line("warning: " + report.str() + (report.rewound ? "; went back to the newest checkpoint's weights" : ""));
  if (report.diverged) saver_.save(loop_.state(), std::nullopt, true);
}

/// How often the loop has to come to on_checkpoint, in updates; there the loop has no mini-batch under way. 0: at the end.
int64_t pause_every(const Options& options) { return std::gcd(options.checkpoint_every, options.valid_every); }

// ---- After training -------------------------------------------------------------------------------------------------------

/// Returns the signal.
int report_stop(const Options& options, int signal) {
  std::fprintf(stderr, "stopped and saved. Go on with:\n  %s\n", resume_command(options).c_str());
  return signal;
}

/// Where the weights are that did best in validation, and how the run is used.
void report_use(const Options& options, const Saver& saver) {
  if (saver.best())
    print_line("best", format_message("valid {:.4f}: {}; evaluate and predict take it with --best", saver.best()->score,
                                      saver.best()->path));
  print_line("use", format_message("{} predict --model {}", options.program, quoted(options.out)));
}

/// What training came to: its result, and the dozen of samples on stdout.
struct Outcome {
  Result result;
  std::string samples;
};

Outcome score_test(TrainedModel& model, const Task& task, const Meter& meter) {
  Outcome outcome{{task.name, libtrain::name(model.parameters.device())}, ""};
  Result& result = outcome.result;
  result.train_seconds = meter.seconds;
  result.target_tokens_per_second = meter.tokens_per_second();
  if (task.test.empty()) return outcome;
  const UsedWeights used(model);
  const auto [predictions, totals] = predict_and_score(model, task.test, {.beams = 1});
  result.per = totals.per;
  result.wer = totals.wer;
  result.words = totals.words;
  outcome.samples = sample_table(task.test, predictions, model.codec.target_kind);
  return outcome;
}

/// Whether nothing is left to train.
bool is_over(const Options& options, const libtrain::TrainState& state) {
  return state.epoch >= options.epochs || (options.updates > 0 && state.updates >= options.updates);
}

/// Other pairs under the same vocabulary would train, and mean nothing.
void check_same_data(const DataId& now, const DataId& before) {
  if (now == before) return;
  throw libtrain::DataError(
      format_message("[resume] the training pairs are not those of the run: {} pairs with hash {}, it was started with "
                     "{} and {}; name "
                     "the same file with --train, or start a new run with another --out",
                     now.pairs, now.hash.substr(0, 8), before.pairs, before.hash.substr(0, 8)));
}

/// Returns the signal that has stopped it, or 0.
int train(const Options& given, SignalScope& signals, Outcome& outcome) {
  const PipesMayBreak stderr_need_not_be_read;
  std::optional<Resumed> resumed;
  std::unique_ptr<FolderLock> lock;
  if (given.resume) {
    lock = std::make_unique<FolderLock>(given.out);
    resumed = resumed_run(given);
  }
  const Options asked = resumed ? resumed->options : given;
  check_data_options(asked);
  check_output_folder(given);
  if (!lock) {
    lock = std::make_unique<FolderLock>(given.out);
    check_holds_no_run(given);
  }
  const Task task = load_task(asked, resumed ? &resumed->codec : nullptr);
  if (resumed) check_same_data(data_id(task.train), resumed->data);

  libtrain::BatchOptions layout = batch_options(asked);
  layout.source_vocab = task.codec.source.size();
  layout.target_vocab = task.codec.target.size();
  libtrain::BucketedBatches batches(
      task.train,
      {.tokens = asked.batch_tokens, .pairs = asked.batch_pairs, .seed = uint64_t(asked.seed), .batch = layout});
  const int64_t batches_per_epoch = batches.begin_epoch(0);
  const Options options = with_plan(asked, batches_per_epoch);
  check_model_fits(options, model_options(options, task.codec.source.size(), task.codec.target.size()));
  TrainedModel model(options, task.codec);

  libtrain::TrainOptions train = train_options(options, batches_per_epoch);
  train.checkpoint_every = pause_every(options);
  if (options.on_nonfinite == "rewind")
    train.rewind = [&](const libtrain::NonFiniteReport&) { return load_newest(options, model); };
  TrainLoop loop(
      model.parameters, batches, [&](const Batch& batch) { return model.transformer.loss(batch); }, train);
  print_header(model, task, train, batches_per_epoch, options);
  const bool over = is_over(options, resumed ? resumed->state : libtrain::TrainState());
  if (!over) plan_memory(model, batches, options);
  if (resumed) {
    loop.restore(libtrain::load_checkpoint(resumed->checkpoint, model.parameters).state);
    std::fprintf(stderr, "resuming from %s\n", resumed->checkpoint.c_str());
    if (over)
      std::fprintf(stderr, "the run is complete already, after %s and %s; more --epochs or --updates go on with it\n",
                   counted(resumed->state.epoch, "epoch").c_str(), counted(resumed->state.updates, "update").c_str());
  }

  Events events(loop, model, task, batches, options, planned_updates(options, batches_per_epoch), resumed, signals);
  if (resumed && !over) events.make_up();
  if (!over && events.exhausted()) {
    std::fprintf(stderr, "the run is complete already: %s brought no lower loss; a larger --patience goes on with it\n",
                 counted(options.patience, "validation").c_str());
    loop.request_stop();
  }
  events.run(resume_command(options));
  if (const int signal = signals.stopped_by()) return report_stop(options, signal);
  report_use(options, events.saver());
  outcome = score_test(model, task, events.meter());
  return 0;
}

}  // namespace

int run_train(const Options& given) {
  SignalScope signals(given.command);
  Outcome outcome;
  if (const int signal = train(given, signals, outcome)) return 128 + signal;
  std::cout << outcome.samples << result_json(outcome.result) << std::endl;
  check_stdout(std::cout);
  return 0;
}

}  // namespace seq2seq
