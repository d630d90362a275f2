#pragma once
#include <concepts>

#include "kernels/scale.h"
#include "libtrain/tape.h"

namespace libtrain {

/// Numbers that operations take in place of a tensor.
template <class S>
concept Scalar = std::integral<S> || std::floating_point<S>;

/// factor * x, for x of any shape in f32, bf16 or f64. Throws InvalidArgument for an integer tensor.
Tensor scale(const Tensor& x, double factor);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// factor * x + offset, recorded as `op`.
inline Tensor scaled(const char* op, const Tensor& x, double factor, double offset = kernels::kNoOffset) {
  const Tensor y(x.shape(), x.dtype(), x.device());
  visit_float(op, x.dtype(), [&]<class T> {
    on(x.device(), [&](auto device) {
      kernels::scale(device, kernels::Scale<T>{x.matrix<const T>(), factor, {y.matrix<T>().data}, offset});
    });
    record(op, y, {x}, {}, [factor](const BackwardStep& step) {
      const kernels::Scale<T> args{step.doutput<T>(), factor, step.sink_in_place<T>(0)};
      on(step.output.device(), [&](auto device) { kernels::scale(device, args); });
    });
  });
  return y;
}

}  // namespace detail

inline Tensor scale(const Tensor& x, double factor) { return detail::scaled("scale", x, factor); }

}  // namespace libtrain
