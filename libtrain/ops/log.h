#pragma once
#include "libtrain/ops/pointwise.h"

namespace libtrain {

/// The natural logarithm of every element: -infinity of 0, NaN of negative ones. The slope is 1 / x.
///   x of any shape in f32, bf16 or f64  →  the shape and dtype of x
/// Throws InvalidArgument for an integer tensor.
inline Tensor log(const Tensor& x) { return detail::pointwise<kernels::Log>("log", x); }

}  // namespace libtrain
