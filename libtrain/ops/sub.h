#pragma once
#include "libtrain/ops/broadcast.h"
#include "libtrain/ops/scale.h"

namespace libtrain {

/// a - b, element by element.
///   a, b  f32, bf16 or f64, the same, of up to 6 dimensions: aligned at the last one, their sizes are equal, or one of them is 1 or missing
///         and its elements are repeated (which dimensions are may change three times from the first to the last)
///   →  the larger size of each dimension, the dtype of both
/// Gradients are summed over what was repeated, in a fixed order and in f32 (f64 for f64). That of a leaf that is repeated is kept so; others
/// have the dtype of the argument. Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor sub(const Tensor& a, const Tensor& b);

/// x - number and number - x, for x of any shape.
template <Scalar S> Tensor sub(const Tensor& x, S number) { return detail::scaled("sub", x, 1, -double(number)); }
template <Scalar S> Tensor sub(S number, const Tensor& x) { return detail::scaled("sub", x, -1, double(number)); }

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor sub(const Tensor& a, const Tensor& b) {
  using DA = detail::Passed<1>;
  using DB = detail::Passed<-1>;
  return detail::binary<kernels::Minus, DA, DB>("sub", a, b);
}

}  // namespace libtrain
