#pragma once
#include "kernels/clip_by_value.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// Limits every element of the mean gradient to [-max_value, max_value], in place; the store's StepState says how many targets the summed
/// gradient is divided by. Call before clip_by_norm, which then measures what is left. An element that is not finite stays, so that the
/// update is skipped.
inline void clip_by_value(const Parameters& parameters, double max_value) {
  LIBTRAIN_CHECK(max_value > 0, "[clip_by_value] max_value must be > 0, got {}; leave the call out to clip nothing",
                 max_value);
  parameters.zero_unwritten_gradients();
  parameters.visit_dtype([&]<class T> {
    const kernels::ClipByValue<T> args{parameters.gradients().view<T>(), parameters.step_view(), max_value};
    on(parameters.device(), [&](auto device) { kernels::clip_by_value(device, args); });
  });
}

}  // namespace libtrain
