#include "examples/seq2seq/options.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "examples/seq2seq/json_values.h"
#include "examples/seq2seq/option_list.h"
#include "libtrain/memory_plan.h"
#include "libtrain/utf8.h"

namespace seq2seq {
namespace {

using libtrain::format_message;
using libtrain::InvalidArgument;
using Json = nlohmann::ordered_json;

/// No count means more than this, and the products of two still fit.
constexpr int64_t kMost = 1'000'000'000, kMostLayers = 1000, kMostBeams = 1000;
constexpr double kMostPenalty = 10;

/// Options that may differ when a run goes on. Files may have moved; that the training pairs are the same is checked.
const std::set<std::string> kMayChange{"train",   "valid",       "test",     "cmudict",      "epochs",
                                       "updates", "valid-every", "patience", "on-nonfinite", "nonfinite-limit"};

int64_t updates_per_epoch(const Options& o, int64_t batches) {
  const int64_t accumulate = std::max<int64_t>(o.accumulate, 1);
  return (batches + accumulate - 1) / accumulate;
}

}  // namespace

std::string to_json(const Options& options) {
  Json json = Json::object();
  for_run_options(options, [&](const char* name, const auto& value, auto...) { json[name] = value; });
  return json.dump();
}

void update_from_json(Options& options, const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  for_run_options(options, [&](const char* name, auto& value, auto...) {
    if (!json.is_object() || !json.contains(name)) return;
    const auto refuse = [&] {
      throw libtrain::CheckpointError(
          format_message("[checkpoint] option '{}' cannot be {}; use a checkpoint that this seq2seq has written", name,
                         json.at(name).dump()));
    };
    try {
      if constexpr (std::is_same_v<decltype(value), int64_t&>)
        value = whole_number(json.at(name));
      else
        json.at(name).get_to(value);
    } catch (const nlohmann::json::exception&) {
      refuse();
    } catch (const InvalidArgument&) {
      refuse();
    }
  });
}

Options options_to_resume(const Options& given, const std::string& saved_json) {
  Options saved = given;
  update_from_json(saved, to_json(Options()));  // what an older checkpoint does not say was as it is by default
  update_from_json(saved, saved_json);
  const Json wanted = Json::parse(to_json(given)), before = Json::parse(to_json(saved));
  for (const std::string& flag : given.given) {
    if (!wanted.contains(flag)) continue;
    if (kMayChange.contains(flag)) continue;
    if (wanted[flag] != before[flag])
      throw InvalidArgument(
          format_message("[resume] --{} {} contradicts the run, which was started with {}; drop the flag, or start a "
                         "new run with another --out",
                         flag, wanted[flag].dump(), before[flag].dump()));
  }
  for_run_options(saved, [&](const char* name, auto& value, auto...) {
    if (given.given.contains(name)) wanted.at(name).get_to(value);
  });
  return saved;
}

Options with_plan(const Options& given, int64_t batches_per_epoch) {
  Options o = given;
  if (o.given.contains("updates") && o.updates > 0 && !o.given.contains("epochs")) {
    const int64_t each = updates_per_epoch(o, batches_per_epoch);
    o.epochs = (o.updates + each - 1) / each;
  }
  return o;
}

int64_t planned_updates(const Options& o, int64_t batches_per_epoch) {
  const int64_t by_epochs = o.epochs * updates_per_epoch(o, batches_per_epoch);
  return o.updates > 0 ? std::min(o.updates, by_epochs) : by_epochs;
}

void check_data_options(const Options& o) {
  if (o.builtin_task()) {
    for (const auto& [flag, value] : {std::pair{"valid", o.valid}, std::pair{"test", o.test}})
      LIBTRAIN_CHECK(value.empty(),
                     "--{} {}: without --train the pairs to validate and test are those of CMUdict, and no file is "
                     "read; name the training pairs with --train, or leave it out",
                     flag, value);
    return;
  }
  LIBTRAIN_CHECK(!o.given.contains("cmudict"),
                 "--cmudict {}: with --train {} no dictionary is read; leave one of them out", o.cmudict, o.train);
  LIBTRAIN_CHECK(o.valid_every == 0 || !o.valid.empty(),
                 "--valid-every {}: there are no pairs to validate; name them with --valid", o.valid_every);
  LIBTRAIN_CHECK(o.patience == 0 || !o.valid.empty(),
                 "--patience {}: there are no pairs to validate; name them with --valid", o.patience);
}

double count_weights(const libtrain::TransformerOptions& o) {
  const auto size = double(o.layer.size), inner = double(o.layer.feed_forward_size), norm = 2 * size;
  const double attention = 4 * (size * size + size), feed_forward = 2 * size * inner + inner + size;
  const double encoder = double(o.encoder_layers) * (attention + feed_forward + 2 * norm);
  const double decoder = double(o.decoder_layers) * (2 * attention + feed_forward + 3 * norm);
  const double final_norms = o.layer.pre_norm ? 2 * norm : 0;
  const auto source = double(o.source_vocab), target = double(o.target_vocab);
  const double rows = o.tying == libtrain::Tying::kAll      ? target
                      : o.tying == libtrain::Tying::kTarget ? source + target
                                                            : source + 2 * target;
  return encoder + decoder + final_norms + rows * size;
}

void check_model_fits(const Options& o, const libtrain::TransformerOptions& model) {
  const double rounded = o.precision == "bf16" ? 2 : 0, average = o.average_decay > 0 ? 4 : 0;
  const double weights = count_weights(model), bytes_each = 16 + rounded + average;
  const double positions = 2 * 4 * double(model.max_positions) * double(model.layer.size);
  auto available = double(libtrain::available_memory(device_of(o)));
  if (o.memory_limit > 0) available = std::min(available, double(o.memory_limit) * 0x1p20);
  if (weights * bytes_each + positions <= available) return;
  throw libtrain::OutOfMemory(format_message(
      "out of memory; use a smaller model or a smaller --max-length: {:.0f} weights with their gradients "
      "and moments need {:.1f} MiB, tables of --max-length {} positions {:.1f} MiB, and {:.1f} MiB are "
      "available",
      weights, weights * bytes_each * 0x1p-20, o.max_length, positions * 0x1p-20, available * 0x1p-20));
}

void check_values(const Options& o) {
  for_run_options(o, [](const char* name, const auto& value, auto...) {
    if constexpr (std::is_same_v<decltype(value), const std::string&>) {  // a checkpoint keeps it as JSON
      const auto invalid = libtrain::find_invalid_utf8(value);
      LIBTRAIN_CHECK(!invalid, "--{} must be UTF-8, got a bad byte at offset {}; use another name", name, *invalid);
    }
  });
  const auto at_least = [](int64_t least, std::initializer_list<std::pair<const char*, int64_t>> flags) {
    for (const auto& [flag, value] : flags) {
      LIBTRAIN_CHECK(value >= least, "--{} must be >= {}, got {}", flag, least, value);
      LIBTRAIN_CHECK(value <= kMost, "--{} must be <= {}, got {}", flag, kMost, value);
    }
  };
  at_least(1, {{"encoder-layers", o.encoder_layers},
               {"decoder-layers", o.decoder_layers},
               {"max-length", o.max_length},
               {"size", o.size},
               {"heads", o.heads},
               {"feed-forward", o.feed_forward},
               {"accumulate", o.accumulate},
               {"min-count", o.min_count},
               {"log-every", o.log_every},
               {"batch-lines", o.batch_lines},
               {"beams", o.beams}});
  at_least(0, {{"epochs", o.epochs},
               {"updates", o.updates},
               {"batch-pairs", o.batch_pairs},
               {"batch-tokens", o.batch_tokens},
               {"vocab-size", o.vocab_size},
               {"warmup", o.warmup},
               {"patience", o.patience},
               {"nonfinite-limit", o.nonfinite_limit},
               {"checkpoint-every", o.checkpoint_every},
               {"keep", o.keep},
               {"valid-every", o.valid_every},
               {"memory-limit", o.memory_limit}});
  LIBTRAIN_CHECK(o.vocab_size == 0 || o.vocab_size > libtrain::kSpecialTokens,
                 "--vocab-size must be > {}, for as many tokens are special, or 0 (all), got {}",
                 libtrain::kSpecialTokens, o.vocab_size);
  LIBTRAIN_CHECK(o.seed >= 0, "--seed must be >= 0, got {}", o.seed);
  LIBTRAIN_CHECK(std::max(o.encoder_layers, o.decoder_layers) <= kMostLayers,
                 "--encoder-layers and --decoder-layers must be <= {}, got {} and {}", kMostLayers, o.encoder_layers,
                 o.decoder_layers);
  LIBTRAIN_CHECK(o.beams <= kMostBeams, "--beams must be <= {}, got {}", kMostBeams, o.beams);
  LIBTRAIN_CHECK(std::abs(o.length_penalty) <= kMostPenalty, "--length-penalty must be in [-{}, {}], got {}",
                 kMostPenalty, kMostPenalty, o.length_penalty);
  LIBTRAIN_CHECK(o.size % o.heads == 0, "--heads {} must divide --size {}; change one of them", o.heads, o.size);
  LIBTRAIN_CHECK(o.batch_pairs + o.batch_tokens > 0,
                 "--batch-pairs and --batch-tokens are both 0; one must limit a batch");
  for (const auto& [flag, value] :
       {std::pair{"dropout", o.dropout}, std::pair{"label-smoothing", o.label_smoothing}, std::pair{"beta1", o.beta1},
        std::pair{"beta2", o.beta2}, std::pair{"average-decay", o.average_decay}})
    LIBTRAIN_CHECK(value >= 0 && value < 1, "--{} must be in [0, 1), got {}", flag, value);
  LIBTRAIN_CHECK(o.learning_rate > 0 && o.learning_rate < 1e30, "--learning-rate must be > 0 and < 1e30, got {}",
                 o.learning_rate);
  LIBTRAIN_CHECK(o.clip_norm >= 0, "--clip-norm must be >= 0 (0: no clipping), got {}", o.clip_norm);
  LIBTRAIN_CHECK(o.weight_decay >= 0, "--weight-decay must be >= 0, got {}", o.weight_decay);
  LIBTRAIN_CHECK(o.precision == "f32" || o.precision == "bf16", "--precision must be f32 or bf16, got '{}'",
                 o.precision);
  LIBTRAIN_CHECK(o.on_nonfinite == "skip" || o.on_nonfinite == "rewind" || o.on_nonfinite == "stop",
                 "--on-nonfinite must be skip, rewind or stop, got '{}'", o.on_nonfinite);
  LIBTRAIN_CHECK(!o.out.empty(), "--out must name a folder, got an empty name");
  for (const auto& [flag, value] : {std::pair{"train", o.train}, std::pair{"valid", o.valid}, std::pair{"test", o.test},
                                    std::pair{"cmudict", o.cmudict}, std::pair{"model", o.model}})
    LIBTRAIN_CHECK(!o.given.contains(flag) || !value.empty(),
                   "--{} must name a {}, got an empty name; leave it out if you mean none", flag,
                   flag == std::string("model") ? "folder" : "file");
  token_kind("source-tokens", o.source_tokens);
  if (!o.target_tokens.empty()) token_kind("target-tokens", o.target_tokens);
  model_options(o, 8, 8);  // tying and activation
  train_options(o, 1);     // schedule
  const auto check_for_cuda = [&](bool asked, const char* flag) {
    LIBTRAIN_CHECK(!asked || device_of(o) == libtrain::Device::kCuda,
                   "{} is for CUDA devices, and --device {} is the CPU here; leave it out", flag, o.device);
  };
  check_for_cuda(o.graphs, "--graphs");
  check_for_cuda(o.weight_gradient_stream, "--weight-gradient-stream");
  device_of(o);
}

libtrain::TokenKind token_kind(const std::string& flag, const std::string& name) {
  if (name == "chars") return libtrain::TokenKind::kChars;
  if (name == "words") return libtrain::TokenKind::kWords;
  throw InvalidArgument(format_message("--{} must be chars or words, got '{}'", flag, name));
}

libtrain::Device device_of(const Options& options) {
  if (options.device == "cpu") return libtrain::Device::kCpu;
  if (options.device == "auto") {
    const bool gpu = libtrain::cuda_available() && !libtrain::cuda::executed_on_cpu();
    return gpu ? libtrain::Device::kCuda : libtrain::Device::kCpu;
  }
  if (options.device != "cuda")
    throw InvalidArgument(format_message("--device must be cpu, cuda or auto, got '{}'", options.device));
  if (!libtrain::cuda_available())
    throw libtrain::DeviceError("--device cuda: no usable CUDA device, or a build without CUDA; use --device cpu");
  return libtrain::Device::kCuda;
}

libtrain::TransformerOptions model_options(const Options& o, int64_t source_vocab, int64_t target_vocab) {
  const std::map<std::string, libtrain::Tying> tyings{
      {"none", libtrain::Tying::kNone}, {"target", libtrain::Tying::kTarget}, {"all", libtrain::Tying::kAll}};
  const std::map<std::string, libtrain::Activation> activations{{"relu", libtrain::Activation::kRelu},
                                                                {"gelu", libtrain::Activation::kGelu}};
  LIBTRAIN_CHECK(tyings.contains(o.tying), "--tying must be none, target or all, got '{}'", o.tying);
  LIBTRAIN_CHECK(activations.contains(o.activation), "--activation must be relu or gelu, got '{}'", o.activation);
  return {.source_vocab = source_vocab,
          .target_vocab = target_vocab,
          .encoder_layers = o.encoder_layers,
          .decoder_layers = o.decoder_layers,
          .layer = {.size = o.size,
                    .heads = o.heads,
                    .feed_forward_size = o.feed_forward,
                    .activation = activations.at(o.activation),
                    .dropout = float(o.dropout),
                    .pre_norm = !o.post_norm},
          .tying = tyings.at(o.tying),
          .max_positions = o.max_length + 2,
          .label_smoothing = o.label_smoothing};
}

libtrain::BatchOptions batch_options(const Options& o) {
  libtrain::BatchOptions options{.device = device_of(o)};
  if (!o.graphs) return options;
  options.capacity_multiple = 256;  // so that batches share graphs
  options.pairs_multiple = 64;
  options.length_multiple = 16;
  return options;
}

libtrain::TrainOptions train_options(const Options& o, int64_t batches_per_epoch) {
  const int64_t total = planned_updates(o, batches_per_epoch);
  const int64_t warmup =
      std::clamp<int64_t>(o.warmup, 0, std::max<int64_t>(total - 1, 0));  // a short run warms up as far as it goes
  libtrain::TrainOptions options{
      .epochs = o.epochs,
      .max_updates = o.updates,
      .accumulate = o.accumulate,
      .clip_norm = o.clip_norm,
      .adam = {.learning_rate = o.learning_rate, .beta1 = o.beta1, .beta2 = o.beta2, .weight_decay = o.weight_decay},
      .average_decay = o.average_decay,
      .checkpoint_every = o.checkpoint_every,
      .graphs = o.graphs,
      .weight_gradient_stream = o.weight_gradient_stream,
      .nonfinite_limit = o.on_nonfinite == "stop" ? 1 : o.nonfinite_limit};
  if (o.schedule == "constant")
    options.schedule = libtrain::constant_schedule(warmup);
  else if (o.schedule == "inverse-sqrt")
    options.schedule = libtrain::inverse_sqrt_schedule(std::max<int64_t>(warmup, 1));
  else if (o.schedule != "linear" && o.schedule != "cosine")
    throw InvalidArgument(
        format_message("--schedule must be constant, linear, cosine or inverse-sqrt, got '{}'", o.schedule));
  else if (total > 0)
    options.schedule =
        o.schedule == "linear" ? libtrain::linear_schedule(warmup, total) : libtrain::cosine_schedule(warmup, total);
  return options;
}

}  // namespace seq2seq
