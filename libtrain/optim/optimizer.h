#pragma once
#include <functional>

#include "kernels/finish_update.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// How a TrainLoop changes parameters: adam(), sgd(), or one of your own.
struct Optimizer {
  /// Step size at schedule factor 1.
  double learning_rate = 0;
  /// Called once per update, when the gradients of the summed loss are complete and clip_by_norm has prepared the StepState: updates the
  /// values at the StepState's learning_rate, with the gradients times its gradient_scale, or not at all when its skip is set. Ends with
  /// finish_update() (as the updates of the library do), and may keep what it needs in the store's moments, which checkpoints save.
  std::function<void(const Parameters&)> update{};
  /// Its name, which checkpoints are resumed by, and how many moments it keeps.
  OptimizerInfo info{};
};

namespace detail {
/// The slowest decay of a running mean: f32 rounds what is closer to 1 to it.
constexpr double kMostDecay = 0.9999999;
}  // namespace detail

/// The end of an update: counts it, or that it was skipped, and sets the store's loss totals to zero. adam_update and sgd_update do it.
inline void finish_update(const Parameters& parameters) {
  on(parameters.device(), [&](auto device) { kernels::finish_update(device, parameters.step_view()); });
}

}  // namespace libtrain
