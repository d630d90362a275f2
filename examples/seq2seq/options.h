/// Everything that the command line of seq2seq sets, in one place: defaults, what is allowed, and the form in a checkpoint.
#pragma once
#include <cstdint>
#include <set>
#include <string>

#include "libtrain/nn/transformer.h"
#include "libtrain/train_loop.h"

namespace seq2seq {

/// Defaults are those of the quick run on CMUdict.
struct Options {
  // data
  std::string train, valid, test;  // tab-separated pairs; without `train` the built-in CMUdict
  std::string cmudict;             // the dictionary's file; found beside the sources when empty
  std::string source_tokens = "chars";
  std::string target_tokens;  // when empty: chars; words for CMUdict
  int64_t max_length = 128;
  int64_t vocab_size = 0, min_count = 1;
  // model
  int64_t size = 128, heads = 4, feed_forward = 256, encoder_layers = 2, decoder_layers = 2;
  double dropout = 0, label_smoothing = 0;
  bool post_norm = false;
  std::string activation = "relu", tying = "target";
  // training
  int64_t epochs = 2, updates = 0, batch_pairs = 64, batch_tokens = 0, accumulate = 1;
  double learning_rate = 2e-3, clip_norm = 1, beta1 = 0.9, beta2 = 0.98, weight_decay = 0, average_decay = 0;
  int64_t warmup = 200, seed = 1;
  std::string schedule = "linear", precision = "f32";
  std::string on_nonfinite = "skip";
  int64_t nonfinite_limit = 20;
  std::string device = "auto";
  bool graphs = false, weight_gradient_stream = false;
  int64_t memory_limit = 0;  // MiB
  // output
  std::string out = "run";
  bool resume = false;
  int64_t checkpoint_every = 500, keep = 3, log_every = 100, valid_every = 0, patience = 0;
  // evaluate, predict
  std::string model;
  bool best = false;
  int64_t batch_lines = 64, beams = 1;
  double length_penalty = 0.6;

  /// Names of the flags that the user gave, without dashes.
  std::set<std::string> given;
  /// The command line as a shell takes it, and its first word.
  std::string command, program;

  bool builtin_task() const { return train.empty(); }
};

/// The options of a run as a JSON object, and back: fields that are not in it keep their value.
std::string to_json(const Options& options);
void update_from_json(Options& options, const std::string& json);

/// The options of a run that goes on: those it was started with, except for what may change in between (how long, where, how often to log).
/// Throws libtrain::InvalidArgument for a flag that contradicts the run, naming both values.
Options options_to_resume(const Options& given, const std::string& saved_json);

/// The options of a run, once it is known how many mini-batches an epoch has: with --updates and without --epochs, as many epochs as those updates
/// take.
Options with_plan(const Options& options, int64_t batches_per_epoch);
/// How many updates a run has in all.
int64_t planned_updates(const Options& options, int64_t batches_per_epoch);

/// Throws libtrain::InvalidArgument for files that the run would not read, or would need.
void check_data_options(const Options& options);

/// Throws libtrain::InvalidArgument naming the first flag whose value is none of those it can have.
void check_values(const Options& options);

/// How many weights a Transformer of these options has: known before there is memory for them, and whatever the options.
double count_weights(const libtrain::TransformerOptions& options);
/// Throws libtrain::OutOfMemory when weights, gradients and Adam's moments of such a model, and its tables of positions, cannot fit in what
/// there is, or in --memory-limit.
void check_model_fits(const Options& options, const libtrain::TransformerOptions& model);

/// Translations into the library's options; throw libtrain::InvalidArgument naming flag and choices.
libtrain::TransformerOptions model_options(const Options& options, int64_t source_vocab, int64_t target_vocab);
libtrain::BatchOptions batch_options(const Options& options);
libtrain::TrainOptions train_options(const Options& options, int64_t batches_per_epoch);
libtrain::TokenKind token_kind(const std::string& flag, const std::string& name);
libtrain::Device device_of(const Options& options);

}  // namespace seq2seq
