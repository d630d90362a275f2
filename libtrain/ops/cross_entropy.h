#pragma once
#include "kernels/cross_entropy.h"
#include "libtrain/ops/token_loss.h"

namespace libtrain {

/// Cross-entropy of softmax(logits) against `targets`, summed over the targets that count.
///   logits [..., vocab] f32, bf16 or f64;  targets i32 [...] in [0, vocab), or ignore_index
///   →  sum (f32; f64 for f64) and count (i64)
/// A row's loss is (1 - s) (lse - x[target]) + s mean(lse - x) with lse = log sum exp(x), s = label_smoothing in [0, 1):
/// PyTorch's convention (Szegedy et al., CVPR 2016). Ignored rows count neither in sum nor in count, and their logits get
/// gradient 0. Logits of -inf mask a class (with s > 0 the loss is then infinite); a row of nothing else has no
/// distribution, and loss NaN. Backward overwrites the logits with their gradient when they were made by a recorded
/// operation and nobody else holds or reads them.
/// Throws InvalidArgument when shapes, dtypes or devices differ from this, and for targets outside the vocabulary
/// (checked on the CPU).
TokenLoss cross_entropy(const Tensor& logits, const Tensor& targets, int64_t ignore_index = -100,
                        double label_smoothing = 0);

// ---------------------------------------------------------------------------------------------------------------------

inline TokenLoss cross_entropy(const Tensor& logits, const Tensor& targets, int64_t ignore_index,
                               double label_smoothing) {
  LIBTRAIN_CHECK(logits.defined() && logits.rank() >= 1,
                 "[cross_entropy] logits must be [..., vocab], got {}; the last dimension is the classes",
                 logits.spec());
  detail::check_token_loss("cross_entropy", logits, targets, logits.dim(-1), ignore_index, label_smoothing);
  const Shape rows{logits.shape().rows()};
  const Tensor lse(rows, accum_dtype(logits.dtype()), logits.device()), row_loss(rows, lse.dtype(), logits.device());
  TokenLoss loss;
  visit_float("cross_entropy", logits.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const kernels::CrossEntropy<T> args{logits.matrix<const T>(), detail::flat_targets(targets), lse.view<A>(),
                                        ignore_index, label_smoothing};
    on(logits.device(), [&](auto device) { kernels::cross_entropy_forward(device, args, row_loss.view<A>()); });
    loss = detail::sum_losses<A>(row_loss, targets, ignore_index);
    record("cross_entropy", loss.sum, {logits}, {targets, lse}, [args](const BackwardStep& step) {
      on(step.output.device(), [&](auto device) {
        kernels::cross_entropy_backward(device, args, step.doutput<A>(), step.sink_in_place<T>(0));
      });
    });
  });
  return loss;
}

}  // namespace libtrain
