#pragma once
#include "examples/seq2seq/options.h"

namespace seq2seq {

/// Trains as the options say, saves checkpoints, scores the test examples and prints a dozen of them with the result. Returns the exit
/// status: 0, or 128 + the signal that stopped it after saving.
int run_train(const Options& options);

}  // namespace seq2seq
