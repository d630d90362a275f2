#pragma once
#include "libtrain/ops/pointwise.h"

namespace libtrain {

/// The logistic function 1 / (1 + exp(-x)) of every element.
///   x of any shape in f32, bf16 or f64  →  the shape and dtype of x
/// Throws InvalidArgument for an integer tensor.
inline Tensor sigmoid(const Tensor& x) { return detail::pointwise<kernels::Sigmoid>("sigmoid", x); }

}  // namespace libtrain
