#pragma once
#include "libtrain/ops/pointwise.h"

namespace libtrain {

/// The hyperbolic tangent of every element.
///   x of any shape in f32, bf16 or f64  →  the shape and dtype of x
/// Throws InvalidArgument for an integer tensor.
inline Tensor tanh(const Tensor& x) { return detail::pointwise<kernels::Tanh>("tanh", x); }

}  // namespace libtrain
