#pragma once
#include "kernels/token_loss.h"
#include "libtrain/tape.h"

namespace libtrain {

/// A loss over tokens as the pair that adds up over mini-batches, whatever their sizes.
struct TokenLoss {
  Tensor sum;    ///< [] in f32 (f64 for f64 logits): the summed losses of the targets that count; differentiable
  Tensor count;  ///< i64 []: how many targets count

  /// sum / count, or 0 (and gradient 0) when nothing counts. Differentiable.
  Tensor mean() const;
};

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// Throws InvalidArgument naming `op` unless both parts of the loss are scalars on one device, which is returned.
inline Device check_token_loss(const char* op, const TokenLoss& loss) {
  LIBTRAIN_CHECK(loss.sum.defined() && loss.sum.numel() == 1 && is_float(loss.sum.dtype()),
                 "[{}] sum must be a scalar, got {}; sum() reduces", op, loss.sum.spec());
  check_is(op, "count", loss.count, DType::i64, loss.sum.device(), {});
  return loss.sum.device();
}

}  // namespace detail

inline Tensor TokenLoss::mean() const {
  detail::check_token_loss("token_loss", *this);
  const Tensor mean(sum.shape(), sum.dtype(), sum.device());
  visit_float("token_loss", sum.dtype(), [&]<class T> {
    const auto count_view = count.view<const int64_t>();
    on(sum.device(),
       [&](auto device) { kernels::mean_loss_forward(device, sum.view<const T>(), count_view, mean.view<T>()); });
    record("token_loss_mean", mean, {sum}, {count}, [count_view](const BackwardStep& step) {
      on(step.output.device(),
         [&](auto device) { kernels::mean_loss_backward(device, count_view, step.doutput<T>(), step.sink<T>(0)); });
    });
  });
  return mean;
}

namespace detail {

/// The shape without its last dimension.
inline Shape leading_dims(const Shape& shape) { return Shape(shape.dims().first(size_t(shape.rank() - 1))); }

/// Throws for the first target that is neither in [0, vocab) nor ignore_index. Targets on other devices were checked
/// where they were made.
inline void check_targets(const char* op, const Tensor& targets, int64_t vocab, int64_t ignore_index) {
  if (targets.device() != Device::kCpu) return;
  const int32_t* ids = targets.matrix<const int32_t>().data;
  for (int64_t i = 0; i < targets.numel(); ++i)
    LIBTRAIN_CHECK(ids[i] == ignore_index || (ids[i] >= 0 && ids[i] < vocab),
                   "[{}] target {} at {} is outside the vocabulary of {} and is not ignore_index ({}); encode with the "
                   "vocabulary of the model",
                   op, ids[i], place_of(targets.shape(), i), vocab, ignore_index);
}

/// What every cross-entropy checks of its targets and options.
inline void check_token_loss(const char* op, const Tensor& rows_of, const Tensor& targets, int64_t vocab,
                             int64_t ignore_index, double label_smoothing) {
  check_is(op, "targets", targets, DType::i32, rows_of.device(), leading_dims(rows_of.shape()));
  LIBTRAIN_CHECK(vocab > 0, "[{}] expected at least one class, got {}; the last dimension is the classes", op, vocab);
  LIBTRAIN_CHECK(label_smoothing >= 0 && label_smoothing < 1,
                 "[{}] label_smoothing must be in [0, 1), got {}; 0 turns it off, 0.1 is usual", op, label_smoothing);
  check_targets(op, targets, vocab, ignore_index);
}

inline View<const int32_t> flat_targets(const Tensor& targets) { return targets.reshape({-1}).view<const int32_t>(); }

/// The pair of one loss a row.
template <class A> TokenLoss sum_losses(const Tensor& row_loss, const Tensor& targets, int64_t ignore_index) {
  const Device where = row_loss.device();
  const TokenLoss loss{Tensor({}, row_loss.dtype(), where), Tensor({}, DType::i64, where)};
  const kernels::LossSum<A> args{row_loss.view<const A>(), flat_targets(targets), ignore_index, loss.sum.view<A>(),
                                 loss.count.view<int64_t>()};
  on(where, [&](auto device) { kernels::sum_losses(device, args); });
  return loss;
}

}  // namespace detail
}  // namespace libtrain
