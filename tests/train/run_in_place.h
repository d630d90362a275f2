/// A run with a folder of its own to save in.
#pragma once
#include "data/temporary_file.h"
#include "train/toy.h"

namespace libtrain::testing {

/// Of 8 mini-batches, two to an update.
struct RunInPlace {
  static inline const TrainOptions kOptions{.epochs = 2, .accumulate = 2, .clip_norm = 1};

  std::vector<Pair> pairs = reversal_pairs(32);
  test::TemporaryFile place{""};
  ToyRun run{pairs, kOptions, 0.2f};

  void advance(int64_t steps) {
    while (run.loop.state().steps < steps) run.loop.step();
  }
};

}  // namespace libtrain::testing
