#pragma once
#include "libtrain/ops/pointwise.h"

namespace libtrain {

/// max(x, 0) of every element; NaN stays NaN. The slope at 0 is 0.
///   x of any shape in f32, bf16 or f64  →  the shape and dtype of x
/// Throws InvalidArgument for an integer tensor.
inline Tensor relu(const Tensor& x) { return detail::pointwise<kernels::Relu>("relu", x); }

}  // namespace libtrain
