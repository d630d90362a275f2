#pragma once
#include "libtrain/ops/broadcast.h"
#include "libtrain/ops/sum.h"

namespace libtrain {

/// The mean over all elements of the cross-entropy between probabilities and those whose logits are given:
/// -z log s(x) - (1 - z) log(1 - s(x)), s the logistic function, in a form in which nothing overflows or cancels.
///   logits [...] f32, bf16 or f64;  targets: probabilities of the shape and dtype of logits  →  [] in f32 (f64 for f64)
/// Losses of elements are rounded to the dtype of logits before they are averaged; of no elements: NaN. Both arguments get gradients.
/// Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& targets);

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& targets) {
  using Slope = detail::Term<kernels::LogisticLossSlope, detail::Of::kA, detail::Of::kB>;
  using TargetSlope = detail::Term<kernels::LogisticLossTargetSlope, detail::Of::kA, detail::Of::kB>;
  constexpr const char* kOp = "binary_cross_entropy_with_logits";
  LIBTRAIN_CHECK(logits.defined(), "[{}] expected logits, got undefined; assign a tensor to them first", kOp);
  check_like(kOp, "targets", targets, logits, logits.shape());
  return mean(detail::binary<kernels::LogisticLoss, Slope, TargetSlope>(kOp, logits, targets));
}

}  // namespace libtrain
