#pragma once
#include "kernels/scale.h"
#include "libtrain/tape.h"

namespace libtrain {

/// factor * x, for x of any shape in f32, bf16 or f64. Throws InvalidArgument for an integer tensor.
Tensor scale(const Tensor& x, double factor);

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor scale(const Tensor& x, double factor) {
  const Tensor y(x.shape(), x.dtype(), x.device());
  visit_float("scale", x.dtype(), [&]<class T> {
    on(x.device(), [&](auto device) {
      kernels::scale(device, kernels::Scale<T>{x.matrix<const T>(), factor, {y.matrix<T>().data}});
    });
    record("scale", y, {x}, {}, [factor](const BackwardStep& step) {
      const kernels::Scale<T> args{step.doutput<T>(), factor, step.sink_in_place<T>(0)};
      on(step.output.device(), [&](auto device) { kernels::scale(device, args); });
    });
  });
  return y;
}

}  // namespace libtrain
