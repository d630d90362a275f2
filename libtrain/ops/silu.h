#pragma once
#include "libtrain/ops/pointwise.h"

namespace libtrain {

/// Sigmoid linear unit, also called swish: x / (1 + exp(-x)) of every element (Elfwing et al., arXiv 1702.03118).
///   x of any shape in f32, bf16 or f64  →  the shape and dtype of x
/// Throws InvalidArgument for an integer tensor.
inline Tensor silu(const Tensor& x) { return detail::pointwise<kernels::Silu>("silu", x); }

}  // namespace libtrain
