#pragma once
#include "libtrain/ops/pointwise.h"

namespace libtrain {

/// By which formula gelu() computes; models trained with one do not give the same numbers with the other.
enum class GeluForm {
  kErf,  ///< x * Phi(x), the definition
  kTanh  ///< its approximation through tanh, off by at most 5e-4
};

/// Gaussian error linear unit, x * P(N(0, 1) <= x), of every element (Hendrycks and Gimpel, arXiv 1606.08415).
///   x of any shape in f32, bf16 or f64  →  the shape and dtype of x
/// Throws InvalidArgument for an integer tensor.
inline Tensor gelu(const Tensor& x, GeluForm form) {
  return form == GeluForm::kErf ? detail::pointwise<kernels::GeluErf>("gelu", x)
                                : detail::pointwise<kernels::GeluTanh>("gelu", x);
}
/// Likewise, by the definition.
inline Tensor gelu(const Tensor& x) { return gelu(x, GeluForm::kErf); }

}  // namespace libtrain
