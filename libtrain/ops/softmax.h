#pragma once
#include "kernels/softmax.h"
#include "libtrain/ops/dim_sum.h"
#include "libtrain/ops/permute.h"

namespace libtrain {

/// exp(x) divided by the sum of exp(x) along dimension `dim`, negative ones counted from the end; relative to the largest element, so
/// that nothing overflows.
///   x [..., size, ...] f32, bf16 or f64  →  the shape and dtype of x
/// -inf gives 0; where all of a sum are -inf, where one is +inf or NaN, the results are NaN. Along the last dimension one kernel; along
/// others x is copied there and back. Throws InvalidArgument for an integer tensor and for a dimension that x does not have.
Tensor softmax(const Tensor& x, int dim);
/// Likewise along the last dimension.
inline Tensor softmax(const Tensor& x) { return softmax(x, -1); }

/// The logarithm of that, without the detour through numbers that may be too small: x - log(sum of exp(x)).
Tensor log_softmax(const Tensor& x, int dim);
/// Likewise along the last dimension.
inline Tensor log_softmax(const Tensor& x) { return log_softmax(x, -1); }

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// Over the last dimension, recorded as `op`.
inline Tensor last_softmax(const char* op, const Tensor& x, bool log) {
  const Tensor y(x.shape(), x.dtype(), x.device());
  visit_float(op, x.dtype(), [&]<class T> {
    const kernels::Softmax<T> args{x.matrix<const T>(), y.matrix<T>(), log};
    on(x.device(), [&](auto device) { kernels::softmax_forward(device, args); });
    record(op, y, {x}, {y}, [log](const BackwardStep& step) {
      const kernels::SoftmaxGradient<T> gradient{step.output.matrix<const T>(), step.doutput<T>(), step.sink<T>(0),
                                                 log};
      on(step.output.device(), [&](auto device) { kernels::softmax_backward(device, gradient); });
    });
  });
  return y;
}

inline Tensor any_softmax(const char* op, const Tensor& x, int dim, bool log) {
  const MiddleDim dims = middle_dim(op, x, dim);
  if (dims.inner == 1) return last_softmax(op, x.reshape({dims.outer, dims.count}), log).reshape(x.shape());
  const Tensor last = transposed(op, x.reshape({dims.outer, dims.count, dims.inner}), 1, 2);
  return transpose(last_softmax(op, last, log), 1, 2).reshape(x.shape());
}

}  // namespace detail

inline Tensor softmax(const Tensor& x, int dim) { return detail::any_softmax("softmax", x, dim, false); }
inline Tensor log_softmax(const Tensor& x, int dim) { return detail::any_softmax("log_softmax", x, dim, true); }

}  // namespace libtrain
