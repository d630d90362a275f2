/// seq2seq: trains an encoder-decoder transformer on pairs of texts, scores it and predicts with it. See `seq2seq --help`.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "examples/seq2seq/command_line.h"
#include "examples/seq2seq/evaluate.h"
#include "examples/seq2seq/train.h"

namespace {

enum ExitStatus { kUsageOrData = 2, kCheckpoint = 4, kMemory = 5, kDevice = 6, kDiverged = 7 };

int report(const std::exception& error, ExitStatus status) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return status;
}

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
  try {
    return run(argc, argv);
  } catch (const libtrain::CheckpointError& error) {
    return report(error, kCheckpoint);
  } catch (const libtrain::OutOfMemory& error) {
    return report(error, kMemory);
  } catch (const libtrain::DeviceError& error) {
    return report(error, kDevice);
  } catch (const libtrain::Diverged& error) {
    return report(error, kDiverged);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: out of memory; use a smaller model, a smaller --max-length or smaller batches\n");
    return kMemory;
  } catch (const std::exception& error) {
    return report(error, kUsageOrData);
  }
}
