/// Tells when the loss jumps.
///
///   LossSpikes spikes;
///   loop.on_step([&](const StepReport& step) {
///     if (const auto spike = spikes.add(step.loss)) std::fprintf(stderr, "step %ld: %s\n", step.step, spike->str().c_str());
///   });
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace libtrain {

/// What counts as a jump.
struct LossSpikesOptions {
  /// The losses that a new one is compared with: so many before it. Default 128. >= 2.
  int window = 128;
  /// Standard deviations above their mean. Default 6. > 0.
  double threshold = 6;
  /// Losses before which nothing is told but what is not finite. Default 32; from 2 to `window`.
  int least = 32;
};

/// A loss that is out of line.
struct LossSpike {
  double loss = 0;       // may be NaN or infinite
  double mean = 0;       // of the losses before
  double deviation = 0;  // theirs, standard
  double score = 0;      // deviations above the mean; infinity for a loss that is not finite

  /// "loss 9.1 is 8.2 standard deviations (0.3) above the mean 6.6"
  std::string str() const;
};

/// Compares each loss with those before it. One that is not finite is always a spike, and is not compared with later; one that is finite is,
/// so that a loss that stays at its new level is told only while it is new.
class LossSpikes {
 public:
  using Options = LossSpikesOptions;  // what the constructor takes

  /// Throws InvalidArgument naming the first option that is out of range.
  explicit LossSpikes(Options options = {});

  /// The next loss, of a mini-batch that has targets; a spike, if it is one.
  std::optional<LossSpike> add(double loss);

 private:
  Options options_;
  std::vector<double> losses_;  // the last ones, in a ring
  size_t next_ = 0;
};

}  // namespace libtrain
