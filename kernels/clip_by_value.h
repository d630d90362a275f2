/// Limits every element of the mean gradient, in the flat buffer of a summed loss:
///   gradient = min(max(gradient, -limit), limit),  limit = max_value * loss_count
/// What is not finite stays, so that the norm tells it and the update is skipped. loss_count comes from the step state.
#pragma once
#include "kernels/dtype.h"
#include "kernels/step_state.h"

namespace libtrain::kernels {

template <class T> struct ClipByValue {
  View<T> gradients;            // [size]
  View<const StepState> state;  // one element
  double max_value;
};

template <Isa isa, class T> void clip_by_value(Cpu<isa>, const ClipByValue<T>&);
template <class T> void clip_by_value(Cuda, const ClipByValue<T>&);

}  // namespace libtrain::kernels
