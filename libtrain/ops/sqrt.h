#pragma once
#include "libtrain/ops/pointwise.h"

namespace libtrain {

/// The square root of every element: NaN of negative ones. The slope, 1 / (2 sqrt(x)), is infinite at 0.
///   x of any shape in f32, bf16 or f64  →  the shape and dtype of x
/// Throws InvalidArgument for an integer tensor.
inline Tensor sqrt(const Tensor& x) { return detail::pointwise<kernels::Sqrt>("sqrt", x); }

}  // namespace libtrain
