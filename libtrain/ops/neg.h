#pragma once
#include "libtrain/ops/scale.h"

namespace libtrain {

/// -x, for x of any shape in f32, bf16 or f64. Throws InvalidArgument for an integer tensor.
inline Tensor neg(const Tensor& x) { return detail::scaled("neg", x, -1); }

}  // namespace libtrain
