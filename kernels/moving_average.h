/// Exponential moving average of the weights (Polyak and Juditsky, 1992, in its exponential form), over flat buffers, after an update.
/// With t = updates:
///   average += (1 - min(decay, (1 + t) / (10 + t))) * (weight - average)
/// so that the start, where weights move most, is forgotten soon. t and skip come from the step state: after an update that was skipped,
/// the average stays as it is.
#pragma once
#include "kernels/dtype.h"
#include "kernels/step_state.h"

namespace libtrain::kernels {

template <class T> struct MovingAverage {
  View<T> average;              // [size]
  View<const T> weights;        // [size]
  View<const StepState> state;  // one element
  double decay;
};

/// What is left of the old average.
LIBTRAIN_HOST_DEVICE inline double average_keeps(double decay, int64_t updates) {
  const double ramp = double(1 + updates) / double(10 + updates);
  return ramp < decay ? ramp : decay;
}

template <Isa isa, class T> void moving_average(Cpu<isa>, const MovingAverage<T>&);
template <class T> void moving_average(Cuda, const MovingAverage<T>&);

}  // namespace libtrain::kernels
