#pragma once
#include "libtrain/ops/broadcast.h"
#include "libtrain/ops/scale.h"

namespace libtrain {

/// a * b, element by element.
///   a, b  f32, bf16 or f64, the same, of up to 6 dimensions: aligned at the last one, their sizes are equal, or one of them is 1 or missing
///         and its elements are repeated (which dimensions are may change three times from the first to the last)
///   →  the larger size of each dimension, the dtype of both
/// Gradients are summed over what was repeated, in a fixed order and in f32 (f64 for f64). That of a leaf that is repeated is kept so; others
/// have the dtype of the argument. Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor mul(const Tensor& a, const Tensor& b);

/// x * number and number * x, for x of any shape; also called scale().
template <Scalar S> Tensor mul(const Tensor& x, S number) { return detail::scaled("mul", x, double(number)); }
template <Scalar S> Tensor mul(S number, const Tensor& x) { return mul(x, number); }

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor mul(const Tensor& a, const Tensor& b) {
  using DA = detail::Term<kernels::Times, detail::Of::kDy, detail::Of::kB>;
  using DB = detail::Term<kernels::Times, detail::Of::kDy, detail::Of::kA>;
  return detail::binary<kernels::Times, DA, DB>("mul", a, b);
}

}  // namespace libtrain
