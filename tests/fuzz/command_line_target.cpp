/// The command line of seq2seq, a word a line; behind a NUL, the options of a saved run that it goes on with.
#include <iostream>
#include <streambuf>

#include "examples/seq2seq/command_line.h"
#include "examples/seq2seq/option_list.h"
#include "fuzz/mutate.h"
#include "fuzz/target.h"

namespace libtrain::fuzz {
namespace {

std::vector<std::string> words, flags;
const std::vector<std::string> kValues{"0",
                                       "1",
                                       "3",
                                       "-1",
                                       "64",
                                       "1e3",
                                       "0.5",
                                       "nan",
                                       "inf",
                                       "1e400",
                                       "",
                                       "9223372036854775807",
                                       "9223372036854775808",
                                       "1000000000",
                                       "1000000001",
                                       "chars",
                                       "words",
                                       "cpu",
                                       "cuda",
                                       "auto",
                                       "none",
                                       "all",
                                       "relu",
                                       "gelu",
                                       "cosine",
                                       "linear",
                                       "inverse-sqrt",
                                       "bf16",
                                       "run",
                                       "\xC0",
                                       "a b",
                                       "'",
                                       "%s",
                                       "{:x}",
                                       "--size"};

/// Where the help text goes.
class Nowhere : public std::streambuf {
  int overflow(int c) override { return c; }
  std::streamsize xsputn(const char*, std::streamsize count) override { return count; }
};

std::vector<std::string> arguments_of(std::string_view text) {
  std::vector<std::string> arguments{"seq2seq"};
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    arguments.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return arguments;
}

void check_options(const seq2seq::Options& options, const std::string& saved) {
  seq2seq::check_values(options);
  seq2seq::train_options(options, 1000);
  seq2seq::Options copy;
  seq2seq::update_from_json(copy, seq2seq::to_json(options));
  require(seq2seq::to_json(copy) == seq2seq::to_json(options), "options that do not come back from JSON");
  const seq2seq::Options resumed = seq2seq::options_to_resume(options, saved);
  seq2seq::check_values(resumed);
}

}  // namespace

void prepare() {
  static Nowhere nowhere;
  std::cout.rdbuf(&nowhere);
  flags = {"--model", "--batch-lines", "--out",         "--resume",          "--device",
           "--keep",  "--log-every",   "--valid-every", "--checkpoint-every"};
  seq2seq::Options options;
  seq2seq::for_run_options(options, [](const char* name, auto&&...) { flags.push_back(std::string("--") + name); });
  words = {"train", "evaluate", "predict", "--help", "--version", "-h", "--", "-", "="};
  words.insert(words.end(), flags.begin(), flags.end());
  words.insert(words.end(), kValues.begin(), kValues.end());
}

void run(std::string_view input) {
  const size_t zero = std::min(input.find('\0'), input.size());
  const auto arguments = arguments_of(input.substr(0, zero));
  const std::string saved(input.substr(std::min(zero + 1, input.size())));
  std::vector<const char*> pointers;
  for (const auto& argument : arguments) pointers.push_back(argument.c_str());
  seq2seq::Options options;
  const auto command = seq2seq::parse_command_line(int(pointers.size()), pointers.data(), options);
  if (command != seq2seq::Command::kHelp) check_options(options, saved);
}

std::string mutate(const std::string& input, Random& random) {
  const size_t zero = std::min(input.find('\0'), input.size());
  const std::string line = input.substr(0, zero), saved = input.substr(std::min(zero + 1, input.size()));
  const std::string nul(1, '\0');
  if (random.once_in(8)) {
    std::vector<std::string> names;
    for (const auto& word : words) names.push_back(word.starts_with("--") ? word.substr(2) : word);
    return line + nul + mutate_json(saved.empty() ? seq2seq::to_json({}) : saved, names, random);
  }
  const std::string rest = saved.empty() ? "" : nul + saved;
  if (random.once_in(32)) return "train" + rest;
  if (random.once_in(2)) {
    const char* between = random.once_in(2) ? "=" : "\n";
    return line + "\n" + any_of(flags, random) + between + any_of(kValues, random) + rest;
  }
  return mutate_lines(line, words, random) + rest;
}

}  // namespace libtrain::fuzz
