#include "examples/seq2seq/options.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "libtrain/config.h"

namespace seq2seq {
namespace {

using libtrain::format_message;
using libtrain::InvalidArgument;
using Json = nlohmann::ordered_json;

/// Calls visit(name, member, group, help) for every option of a run: the one list that flags, defaults and checkpoints share.
template <class AnyOptions, class Visit> void for_run_options(AnyOptions& o, const Visit& visit) {
  const char *data = "Data", *model = "Model", *training = "Training";
  visit("train", o.train, data,
        "tab-separated pairs, one \"source<TAB>target\" a line; without it: CMUdict, words to phonemes");
  visit("valid", o.valid, data, "pairs whose loss is shown at the end of every epoch");
  visit("test", o.test, data, "pairs to score at the end; lines with the same source are several references");
  visit("cmudict", o.cmudict, data, "file of the built-in dictionary, if it is not beside the sources");
  visit("source-tokens", o.source_tokens, data, "cut sources into chars or words");
  visit("target-tokens", o.target_tokens, data, "cut targets into chars or words (default: chars; CMUdict: words)");
  visit("max-length", o.max_length, data, "most tokens on a side; a longer pair is an error");
  visit("size", o.size, model, "width of embeddings and layers");
  visit("heads", o.heads, model, "attention heads; must divide the width");
  visit("feed-forward", o.feed_forward, model, "inner width of the feed-forward layers");
  visit("encoder-layers", o.encoder_layers, model, "layers of the encoder");
  visit("decoder-layers", o.decoder_layers, model, "layers of the decoder");
  visit("dropout", o.dropout, model, "share of activations dropped while training, in [0, 1)");
  visit("label-smoothing", o.label_smoothing, model, "share of the probability spread over all classes, in [0, 1)");
  visit("post-norm", o.post_norm, model, "layer norm behind each sublayer instead of before it");
  visit("activation", o.activation, model, "relu or gelu");
  visit("tying", o.tying, model, "which embedding tables are one: none, target (with the output) or all");
  visit("epochs", o.epochs, training, "passes over the data");
  visit("updates", o.updates, training, "stop after so many updates; 0: epochs decide");
  visit("batch-pairs", o.batch_pairs, training, "most pairs in a mini-batch; 0: no limit");
  visit("batch-tokens", o.batch_tokens, training, "most tokens on a side of a mini-batch; 0: no limit");
  visit("accumulate", o.accumulate, training, "mini-batches per update");
  visit("learning-rate", o.learning_rate, training, "peak learning rate of Adam");
  visit("warmup", o.warmup, training, "updates of linear warm-up");
  visit("schedule", o.schedule, training,
        "after warm-up: constant, linear, cosine (both to 0 at the end) or inverse-sqrt");
  visit("clip-norm", o.clip_norm, training, "longest gradient; 0: no clipping");
  visit("beta1", o.beta1, training, "Adam's decay of the mean");
  visit("beta2", o.beta2, training, "Adam's decay of the mean square");
  visit("weight-decay", o.weight_decay, training, "decoupled weight decay");
  visit("seed", o.seed, training, "of initial values, order of the data and dropout");
}

/// Options that may differ when a run goes on.
const std::set<std::string> kMayChange{"train", "valid", "test", "cmudict", "epochs", "updates"};

/// Adds options to a subcommand and remembers which were given.
class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(app) {}

  template <class T> void operator()(const char* name, T& member, const char* group, const char* help) {
    const std::string flag = std::string("--") + name;
    CLI::Option* option;
    if constexpr (std::is_same_v<T, bool>)
      option = app_.add_flag(flag, member, help);
    else
      option = app_.add_option(flag, member, help);
    if constexpr (std::is_same_v<T, std::string>) {
      if (!member.empty()) option->capture_default_str();
    } else if constexpr (!std::is_same_v<T, bool>) {
      option->capture_default_str();
    }
    option->group(group);
    options_.emplace_back(name, option);
  }

  void collect(std::set<std::string>& given) const {
    for (const auto& [name, option] : options_)
      if (option->count() > 0) given.insert(name);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names{"--help"};
    for (const auto& [name, option] : options_) names.push_back("--" + name);
    return names;
  }

 private:
  CLI::App& app_;
  std::vector<std::pair<std::string, CLI::Option*>> options_;
};

constexpr const char* kTrainExamples = R"(Examples:
  seq2seq train                                          words to phonemes, in two minutes
  seq2seq train --train a.tsv --valid b.tsv --test c.tsv --out my_run
  seq2seq train --out my_run --resume                    goes on where it stopped)";

struct CommandLine {
  CLI::App app{"seq2seq trains an encoder-decoder transformer on pairs of texts, scores it and predicts with it.",
               "seq2seq"};
  CLI::App* train = app.add_subcommand("train", "train a model, then score it");
  CLI::App* evaluate = app.add_subcommand("evaluate", "score a trained model on pairs");
  CLI::App* predict =
      app.add_subcommand("predict", "read one source a line from stdin, write one result a line to stdout");
  Flags train_flags{*train}, evaluate_flags{*evaluate}, predict_flags{*predict};

  explicit CommandLine(Options& o) {
    app.require_subcommand(1);
    app.set_version_flag("--version", libtrain::kVersion);
    app.footer(
        "Exit status: 0 done, 2 usage or data, 4 checkpoint, 5 out of memory, 6 device, 130 or 143 stopped by a signal "
        "and saved.");
    train->footer(kTrainExamples);
    for_run_options(o, [&](auto&&... option) { train_flags(option...); });
    const char* output = "Output";
    train_flags("device", o.device, output, "cpu, cuda or auto");
    train_flags("out", o.out, output, "folder of the run: checkpoints go there");
    train_flags("resume", o.resume, output, "go on from the newest checkpoint in --out");
    train_flags("checkpoint-every", o.checkpoint_every, output, "updates between checkpoints; 0: only at the end");
    train_flags("keep", o.keep, output, "checkpoints to keep; 0: all");
    train_flags("log-every", o.log_every, output, "updates between lines of progress when stderr is no terminal");
    for (auto [app_of, flags] : {std::pair{evaluate, &evaluate_flags}, std::pair{predict, &predict_flags}}) {
      (*flags)("model", o.model, "Model", "folder of a run, or of one checkpoint (required)");
      (*flags)("device", o.device, "Model", "cpu, cuda or auto");
    }
    evaluate_flags("test", o.test, "Data", "pairs to score; without it: the test words of CMUdict");
    evaluate_flags("cmudict", o.cmudict, "Data", "file of the built-in dictionary, if it is not beside the sources");
  }

  const Flags& flags() const {
    return train->parsed() ? train_flags : evaluate->parsed() ? evaluate_flags : predict_flags;
  }
};

/// CLI11's complaint about what it did not expect, with a suggestion.
std::string explain_extra(const CommandLine& line, const std::string& word) {
  const bool has_command = line.train->parsed() || line.evaluate->parsed() || line.predict->parsed();
  const std::vector<std::string> commands{"train", "evaluate", "predict", "--help", "--version"};
  const auto candidates = has_command ? line.flags().names() : commands;
  return format_message("unknown {} '{}'{}; see seq2seq {}--help", word.starts_with("-") ? "option" : "argument", word,
                        libtrain::did_you_mean(word.substr(0, word.find('=')), candidates),
                        line.train->parsed() ? "train " : "");
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
    try {
      json.at(name).get_to(value);
    } catch (const nlohmann::json::exception&) {
      throw libtrain::CheckpointError(
          format_message("[checkpoint] option '{}' cannot be {}", name, json.at(name).dump()));
    }
  });
}

Options options_to_resume(const Options& given, const std::string& saved_json) {
  Options saved = given;
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

libtrain::TokenKind token_kind(const std::string& flag, const std::string& name) {
  if (name == "chars") return libtrain::TokenKind::kChars;
  if (name == "words") return libtrain::TokenKind::kWords;
  throw InvalidArgument(format_message("--{} must be chars or words, got '{}'", flag, name));
}

libtrain::Device device_of(const Options& options) {
  if (options.device == "cpu") return libtrain::Device::kCpu;
  if (options.device == "auto") return libtrain::cuda_available() ? libtrain::Device::kCuda : libtrain::Device::kCpu;
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

libtrain::TrainOptions train_options(const Options& o, int64_t batches_per_epoch) {
  const int64_t accumulate = std::max<int64_t>(o.accumulate, 1);
  const int64_t by_epochs = o.epochs * ((batches_per_epoch + accumulate - 1) / accumulate);
  const int64_t total = o.updates > 0 ? std::min(o.updates, by_epochs) : by_epochs;
  const int64_t warmup =
      std::clamp<int64_t>(o.warmup, 0, std::max<int64_t>(total - 1, 0));  // a short run warms up as far as it goes
  libtrain::TrainOptions options{
      .epochs = o.epochs,
      .max_updates = o.updates,
      .accumulate = o.accumulate,
      .clip_norm = o.clip_norm,
      .adam = {.learning_rate = o.learning_rate, .beta1 = o.beta1, .beta2 = o.beta2, .weight_decay = o.weight_decay},
      .checkpoint_every = o.checkpoint_every};
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

Command parse_command_line(int argc, const char* const* argv, Options& options) {
  CommandLine line(options);
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    line.app.exit(help);
    return Command::kHelp;
  } catch (const CLI::ExtrasError&) {
    const auto extras = line.app.remaining(true);
    throw InvalidArgument(explain_extra(line, extras.empty() ? "" : extras.front()));
  } catch (const CLI::RequiredError&) {
    const auto extras = line.app.remaining(true);
    throw InvalidArgument(extras.empty() ? "expected a command: train, evaluate or predict; see seq2seq --help"
                                         : explain_extra(line, extras.front()));
  } catch (const CLI::ParseError& error) {
    throw InvalidArgument(error.what());
  }
  line.flags().collect(options.given);
  if (line.train->parsed()) return Command::kTrain;
  LIBTRAIN_CHECK(!options.model.empty(), "--model is required: the folder of a run, or of one checkpoint");
  return line.evaluate->parsed() ? Command::kEvaluate : Command::kPredict;
}

}  // namespace seq2seq
