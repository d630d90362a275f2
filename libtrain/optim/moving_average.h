#pragma once
#include "kernels/moving_average.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// Moves the store's average towards its values, after an update; see kernels/moving_average.h for the formula. decay in [0, 1): the share of
/// the old average that is kept, less in the first updates. Throws InvalidArgument when the store keeps no average.
void update_average(const Parameters& parameters, double decay);

/// update_average() in two steps: the function that is returned does it, needs no memory and so cannot fail between an update and its average.
inline std::function<void()> average_update(const Parameters& parameters, double decay) {
  LIBTRAIN_CHECK(decay >= 0 && decay < 1, "[moving_average] decay must be in [0, 1), got {}; 0.999 is usual", decay);
  parameters.check_shows_values("moving_average");
  const Tensor average = parameters.average();
  LIBTRAIN_CHECK(average.defined(), "[moving_average] the store keeps no average; make it with {}", ".average = true");
  return parameters.visit_dtype([&]<class T>() -> std::function<void()> {
    const kernels::MovingAverage<T> args{average.view<T>(), parameters.values().view<const T>(), parameters.step_view(),
                                         decay};
    return
        [device = parameters.device(), args] { on(device, [&](auto where) { kernels::moving_average(where, args); }); };
  });
}

inline void update_average(const Parameters& parameters, double decay) { average_update(parameters, decay)(); }

/// While alive, all tensors of the store show the averaged values: for evaluation, and for save_weights. Training and checkpoints are refused
/// until it is gone.
class AveragedWeights {
 public:
  /// Exchanges them with the values, which the destructor puts back. Throws InvalidArgument when the store keeps no average, or shows it already.
  explicit AveragedWeights(Parameters& parameters) : parameters_(parameters) {
    parameters_.check_shows_values("moving_average");  // a second one would show the values again
    parameters_.swap_average();
  }
  ~AveragedWeights() {
    try {
      parameters_.swap_average();
    } catch (const DeviceError&) {
      // The device has failed: who waits for it next is told.
    }
  }
  AveragedWeights(const AveragedWeights&) = delete;

 private:
  Parameters& parameters_;
};

}  // namespace libtrain
