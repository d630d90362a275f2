/// seq2seq: trains an encoder-decoder transformer on pairs of texts, scores it and predicts with it. See `seq2seq --help`.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "examples/seq2seq/command_line.h"
#include "examples/seq2seq/evaluate.h"
#include "examples/seq2seq/exit_status.h"
#include "examples/seq2seq/train.h"

namespace {

int run(int argc, char** argv) {
  seq2seq::Options options;
  switch (seq2seq::parse_command_line(argc, argv, options)) {
    case seq2seq::Command::kHelp:
      std::cout.flush();
      seq2seq::check_stdout(std::cout);
      return 0;
    case seq2seq::Command::kTrain:
      return seq2seq::run_train(options);
    case seq2seq::Command::kEvaluate:
      return seq2seq::run_evaluate(options);
    case seq2seq::Command::kPredict:
      if (isatty(STDIN_FILENO)) options.batch_lines = 1;  // someone waits for each answer
      return seq2seq::run_predict(options, stdin, std::cout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGXFSZ, SIG_IGN);  // a file beyond the limit of the shell is then an error like others, with its path
  try {
    return run(argc, argv);
  } catch (...) {
    const auto [status, message] = seq2seq::current_failure();
    signal(SIGPIPE, SIG_IGN);  // the status tells it even when nobody reads stderr
    std::fprintf(stderr, "error: %s\n", message.c_str());
    return int(status);
  }
}
