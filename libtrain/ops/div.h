#pragma once
#include "libtrain/ops/broadcast.h"
#include "libtrain/ops/scale.h"

namespace libtrain {

/// a / b, element by element.
///   a, b  f32, bf16 or f64, the same, of up to 6 dimensions: aligned at the last one, their sizes are equal, or one of them is 1 or missing
///         and its elements are repeated (which dimensions are may change three times from the first to the last)
///   →  the larger size of each dimension, the dtype of both
/// Gradients are summed over what was repeated, in a fixed order and in f32 (f64 for f64). That of a leaf that is repeated is kept so; others
/// have the dtype of the argument. Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor div(const Tensor& a, const Tensor& b);

/// x / number, as a product with 1 / number; and number / x, the number rounded to the dtype of x.
template <Scalar S> Tensor div(const Tensor& x, S number) { return detail::scaled("div", x, 1 / double(number)); }
template <Scalar S> Tensor div(S number, const Tensor& x) {
  LIBTRAIN_CHECK(x.defined(), "[div] expected a tensor, got undefined; assign one to it first");
  return div(Tensor::full({}, double(number), x.dtype(), x.device()), x);
}

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor div(const Tensor& a, const Tensor& b) {
  using DA = detail::Term<kernels::Quotient, detail::Of::kDy, detail::Of::kB>;
  using DB = detail::Term<kernels::QuotientSlope, detail::Of::kA, detail::Of::kB>;
  return detail::binary<kernels::Quotient, DA, DB>("div", a, b);
}

}  // namespace libtrain
