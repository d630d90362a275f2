#pragma once
#include "libtrain/ops/mul.h"
#include "libtrain/ops/sub.h"
#include "libtrain/ops/sum.h"

namespace libtrain {

/// Mean squared error: the mean over all elements of (predictions - targets)^2.
///   predictions [...] f32, bf16 or f64;  targets of its shape and dtype  →  [] in f32 (f64 for f64); of no elements: NaN
/// Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor mse_loss(const Tensor& predictions, const Tensor& targets);

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor mse_loss(const Tensor& predictions, const Tensor& targets) {
  LIBTRAIN_CHECK(predictions.defined(),
                 "[mse_loss] expected predictions, got undefined; assign a tensor to them first");
  check_like("mse_loss", "targets", targets, predictions, predictions.shape());
  LIBTRAIN_CHECK(is_float(predictions.dtype()),
                 "[mse_loss] expected a float dtype (f32, bf16, f64), got {}; cast() converts",
                 name(predictions.dtype()));
  const Tensor errors = sub(predictions, targets);
  return mean(mul(errors, errors));
}

}  // namespace libtrain
