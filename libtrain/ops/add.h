#pragma once
#include "kernels/add.h"
#include "libtrain/ops/broadcast.h"
#include "libtrain/ops/scale.h"

namespace libtrain {

/// a + b, element by element.
///   a, b  f32, bf16 or f64, the same, of up to 6 dimensions: aligned at the last one, their sizes are equal, or one of them is 1 or missing
///         and its elements are repeated (which dimensions are may change three times from the first to the last)
///   →  the larger size of each dimension, the dtype of both
/// Gradients are summed over what was repeated, in a fixed order and in f32 (f64 for f64). That of a leaf that is repeated, a bias for instance,
/// is kept so; others have the dtype of the argument. Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor add(const Tensor& a, const Tensor& b);

/// x + number and number + x, for x of any shape.
template <Scalar S> Tensor add(const Tensor& x, S number) { return detail::scaled("add", x, 1, double(number)); }
template <Scalar S> Tensor add(S number, const Tensor& x) { return add(x, number); }

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor add(const Tensor& a, const Tensor& b) {
  using Passed = detail::Passed<1>;
  const Shape shape = detail::broadcast_shape("add", a, b);
  const bool row = b.rank() == 1 && shape.rank() > 1 && b.dim(0) == shape[-1];
  if (a.shape() != shape || !(row || b.shape() == shape))
    return detail::binary<kernels::Plus, Passed, Passed>("add", a, b);
  const Tensor y(shape, a.dtype(), a.device());  // residuals and biases have a kernel of their own
  visit_float("add", a.dtype(), [&]<class T> {
    const kernels::Add<T> args{a.matrix<const T>(), b.matrix<const T>(), y.matrix<T>()};
    on(a.device(), [&](auto device) { kernels::add(device, args); });
  });
  detail::record_binary<Passed, Passed>("add", y, a, b, detail::plan_broadcast("add", {a.shape(), b.shape()}, shape));
  return y;
}

}  // namespace libtrain
