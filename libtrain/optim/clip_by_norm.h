#pragma once
#include "kernels/clip_by_norm.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// Measures the norm of the mean gradient over all parameters and decides how the optimizer scales it, so that the norm is at most
/// `max_norm` (0: never clips). Call once per update, before adam_update; writes gradient_norm, gradient_scale and skip into the store's
/// StepState, whose loss_count it divides by. Parameters without a gradient count as zero. `holds`: after an update
/// that is not finite, every later one changes nothing until the host sets skip to 0. TrainLoop asks for this, to find the cause first.
inline void clip_by_norm(const Parameters& parameters, double max_norm, bool holds = false) {
  LIBTRAIN_CHECK(max_norm >= 0, "[clip_by_norm] max_norm must be >= 0 (0: no clipping), got {}", max_norm);
  parameters.zero_unwritten_gradients();
  const int64_t size = parameters.flat_size();
  parameters.visit_dtype([&]<class T> {
    on(parameters.device(), [&](auto device) {
      const Tensor workspace({kernels::clip_workspace(device, size)}, DType::f64, parameters.device());
      kernels::clip_by_norm(device,
                            kernels::ClipByNorm<T>{parameters.gradients().view<const T>(), workspace.view<double>(),
                                                   parameters.step_view(), max_norm, holds});
    });
  });
}

}  // namespace libtrain
