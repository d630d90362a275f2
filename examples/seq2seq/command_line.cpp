#include "examples/seq2seq/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <map>

#include "examples/seq2seq/exit_status.h"
#include "examples/seq2seq/option_list.h"
#include "libtrain/config.h"

namespace seq2seq {
namespace {

using libtrain::format_message;
using libtrain::InvalidArgument;

/// What is wrong with `text` as a number of type T, or "".
template <class T> std::string complaint(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return "";
  return format_message("expected a {}, got '{}'", std::is_integral_v<T> ? "whole number" : "number", text);
}

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
      option->capture_default_str()->check(complaint<T>, "");
    }
    option->group(group)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
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

constexpr const char* kFooter = R"(Examples:
  seq2seq train --out my_run                             words to phonemes, in two minutes
  seq2seq evaluate --model my_run --test pairs.tsv       one line of JSON with the error rates
  echo hello | seq2seq predict --model my_run            HH AH L OW

An option that is given twice counts as it stands last.
Signals while training: Ctrl-C, SIGTERM or SIGHUP (a closed terminal; not under nohup) saves and stops, a second one
leaves at once, SIGUSR1 saves and goes on. Training goes on when nobody reads stderr any more.
Exit status:
)";
constexpr const char* kTrainFooter = R"(Examples:
  seq2seq train                                          words to phonemes, in two minutes
  seq2seq train --train a.tsv --valid b.tsv --test c.tsv --out my_run
  seq2seq train --out my_run --resume                    goes on where it stopped)";
constexpr const char* kEvaluateFooter = R"(Examples:
  seq2seq evaluate --model my_run                        the test pairs that the run was trained with
  seq2seq evaluate --model my_run/step-00001000 --test pairs.tsv

On stdout come a dozen samples, then one line of JSON with:
  per    token error rate in percent: insertions, deletions and substitutions that turn the outputs into the nearest
         references, over the tokens of those (phoneme error rate, where tokens are phonemes)
  wer    percent of the sources whose output is none of their references (word error rate, where sources are words)
  words  number of sources; lines with the same source are one, with several references)";
constexpr const char* kPredictFooter = R"(Examples:
  seq2seq predict --model my_run < words.txt > phonemes.txt
  seq2seq predict --model my_run --beams 4               searches wider: better, and slower
  seq2seq predict --model my_run                         answers what you type, line by line)";

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
    app.footer(kFooter + exit_status_help());
    train->footer(kTrainFooter);
    evaluate->footer(kEvaluateFooter);
    predict->footer(kPredictFooter);
    for_run_options(o, [&](auto&&... option) { train_flags(option...); });
    const char* output = "Output";
    train_flags("device", o.device, output, "cpu, cuda or auto");
    train_flags("graphs", o.graphs, output,
                "on a CUDA device: capture each step as a graph, for batches rounded up to few layouts");
    train_flags("weight-gradient-stream", o.weight_gradient_stream, output,
                "on a CUDA device: make gradients of weights on a second stream, beside the rest of backward");
    train_flags("memory-limit", o.memory_limit, output,
                "MiB that tensors may take; a run that needs more is refused; 0: what is free on the device");
    train_flags("out", o.out, output, "folder of the run: checkpoints go there");
    train_flags("resume", o.resume, output, "go on from the newest checkpoint in --out");
    train_flags("checkpoint-every", o.checkpoint_every, output, "updates between checkpoints; 0: only at the end");
    train_flags("keep", o.keep, output, "checkpoints to keep; 0: all");
    train_flags("log-every", o.log_every, output, "updates between lines of progress when stderr is no terminal");
    for (Flags* flags : {&evaluate_flags, &predict_flags}) {
      (*flags)("model", o.model, "Model", "folder of a run, or of one checkpoint (required)");
      (*flags)("best", o.best, "Model",
               "of a run's checkpoints take the one with the lowest loss in validation, not the newest");
      (*flags)("device", o.device, "Model", "cpu, cuda or auto");
      (*flags)("beams", o.beams, "Search",
               "targets followed at a time (beam search); 1: the most probable token each time");
      (*flags)("length-penalty", o.length_penalty, "Search",
               "with beams: how much longer targets are favoured; 0: not at all");
    }
    predict_flags("batch-lines", o.batch_lines, "Model",
                  "lines that are read before they are answered together; 1 for a program that waits for each answer");
    evaluate_flags("test", o.test, "Data",
                   "pairs to score; without it: those of the run, or the test words of CMUdict");
    evaluate_flags("cmudict", o.cmudict, "Data", "file of the built-in dictionary, if it is not beside the sources");
  }

  const Flags& flags() const {
    return train->parsed() ? train_flags : evaluate->parsed() ? evaluate_flags : predict_flags;
  }
};

/// "train " and so on; "" before there is a command.
const char* command_name(const CommandLine& line) {
  if (line.train->parsed()) return "train ";
  if (line.evaluate->parsed()) return "evaluate ";
  return line.predict->parsed() ? "predict " : "";
}

/// What other programs call an option, and what it is called here.
const std::map<std::string, std::string> kElsewhere{
    {"--batch-size", "--batch-pairs"}, {"--beam-size", "--beams"},  {"--early-stopping", "--patience"},
    {"--layers", "--encoder-layers"},  {"--lr", "--learning-rate"}, {"--max-epochs", "--epochs"},
    {"--max-steps", "--updates"},      {"--output-dir", "--out"},   {"--save-dir", "--out"}};

/// In parentheses: the option that was probably meant. Empty when there is none.
std::string suggestion(const std::string& name, const std::vector<std::string>& candidates) {
  if (name == "--threads") return " (the environment variable OMP_NUM_THREADS says how many)";
  const auto known = kElsewhere.find(name);
  if (known != kElsewhere.end() && std::ranges::count(candidates, known->second))
    return format_message(" (did you mean '{}'?)", known->second);
  return libtrain::did_you_mean(name, candidates);
}

/// CLI11's complaint about what it did not expect, with a suggestion.
std::string explain_extra(const CommandLine& line, const std::string& word) {
  const bool has_command = line.train->parsed() || line.evaluate->parsed() || line.predict->parsed();
  const std::vector<std::string> commands{"train", "evaluate", "predict", "--help", "--version"};
  const auto candidates = has_command ? line.flags().names() : commands;
  return format_message("unknown {} '{}'{}; see seq2seq {}--help", word.starts_with("-") ? "option" : "argument", word,
                        suggestion(word.substr(0, word.find('=')), candidates), command_name(line));
}

/// CLI11's complaint about a value, in the words of ours.
std::string explain_value(const CLI::ParseError& error) {
  const std::string text = error.what();
  const size_t colon = text.find(": "), equals = text.find(" = ");
  if (error.get_exit_code() == int(CLI::ExitCodes::ArgumentMismatch))
    return format_message("{}: expected a value, got none", text.substr(0, colon));
  if (error.get_exit_code() == int(CLI::ExitCodes::ConversionError) && colon < equals && equals != text.npos)
    return format_message("{}: expected true or false, got '{}'", text.substr(colon + 2, equals - colon - 2),
                          text.substr(equals + 3));
  return text;
}

}  // namespace

std::string quoted(const std::string& word) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? "'\\''" : std::string(1, c);
  return text + "'";
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
    throw InvalidArgument(format_message("{}; see seq2seq {}--help", explain_value(error), command_name(line)));
  }
  line.flags().collect(options.given);
  if (argc > 0) options.program = quoted(argv[0]);
  for (int i = 0; i < argc; ++i) options.command += (i ? " " : "") + quoted(argv[i]);
  check_values(options);
  if (line.train->parsed()) return Command::kTrain;
  LIBTRAIN_CHECK(!options.model.empty(), "--model is required: the folder of a run, or of one checkpoint");
  return line.evaluate->parsed() ? Command::kEvaluate : Command::kPredict;
}

}  // namespace seq2seq
