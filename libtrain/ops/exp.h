#pragma once
#include "libtrain/ops/pointwise.h"

namespace libtrain {

/// e to the power of every element; infinity where that is beyond the range of the dtype.
///   x of any shape in f32, bf16 or f64  →  the shape and dtype of x
/// Throws InvalidArgument for an integer tensor.
inline Tensor exp(const Tensor& x) { return detail::pointwise<kernels::Exp>("exp", x); }

}  // namespace libtrain
