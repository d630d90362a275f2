/// Cross-entropy of softmax(logits) against class numbers, with label smoothing (Szegedy et al., CVPR 2016).
/// For a row of logits x, its target t, e = label_smoothing and lse = log(sum over classes of exp(x)):
///   loss = (1 - e) (lse - x[t]) + e mean over classes of (lse - x)
///   dx = dsum (exp(x - lse) - (1 - e) [class is t] - e / vocab)
/// Rows whose target is ignore_index have loss 0 and gradient 0, whatever their logits are.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct CrossEntropy {
  View<const T> logits;         // [rows, vocab], vocab > 0
  View<const int32_t> targets;  // [rows]: in [0, vocab), or ignore_index
  /// [rows] out of forward, into backward; 0 in ignored rows. None where forward makes the gradients.
  View<accum_t<T>> lse;
  int64_t ignore_index;
  double label_smoothing;  // in [0, 1)
};

/// loss [rows]: see sum_losses in token_loss.h. dlogits: none, or the logits themselves, which then become their gradients for dsum = 1 in
/// the same pass.
template <Isa isa, class T>
void cross_entropy_forward(Cpu<isa>, const CrossEntropy<T>&, View<accum_t<T>> loss, View<T> dlogits = {});
template <class T>
void cross_entropy_forward(Cuda, const CrossEntropy<T>&, View<accum_t<T>> loss, View<T> dlogits = {});

/// dsum: one element, the gradient at the sum of the losses. dlogits [rows, vocab] may alias the logits.
template <Isa isa, class T>
void cross_entropy_backward(Cpu<isa>, const CrossEntropy<T>&, View<const accum_t<T>> dsum, Sink<T> dlogits);
template <class T>
void cross_entropy_backward(Cuda, const CrossEntropy<T>&, View<const accum_t<T>> dsum, Sink<T> dlogits);

}  // namespace libtrain::kernels
