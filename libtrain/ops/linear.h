#pragma once
#include "libtrain/ops/gemm.h"
#include "libtrain/tape.h"

namespace libtrain {

/// y = x weight^T + bias, for every row of x.
///   x [..., in] f32, bf16 or f64;  weight [out, in], bias [out] (or undefined: none) of the same dtype  →  [..., out]
/// Products are summed in f32 (f64 for f64) and rounded once; the gradients of weight and bias are f32 (f64 for f64).
/// Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// The input has the dtype of the weight that it meets: of the two, it is the one that a caller chose last.
inline void check_like_weight(const char* op, const char* argument, const Tensor& input, const Tensor& weight) {
  LIBTRAIN_CHECK(input.dtype() == weight.dtype(),
                 "[{}] {} must have the dtype of weight, got {} and {}; cast() converts", op, argument, input.spec(),
                 weight.spec());
}

/// The checks of y = x weight^T + bias for the operation `op`.
inline void check_linear(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  LIBTRAIN_CHECK(x.defined() && x.rank() >= 1, "[{}] x must be [..., in], got {}; reshape() it", op, x.spec());
  LIBTRAIN_CHECK(weight.defined() && weight.rank() == 2 && weight.dim(1) == x.dim(-1),
                 "[{}] weight must be [out, {}] for x {}, got {}; its second size is the last of x", op, x.dim(-1),
                 x.spec(), weight.spec());
  check_like_weight(op, "x", x, weight);
  check_like(op, "weight", weight, x, weight.shape());
  if (bias.defined()) check_like(op, "bias", bias, x, {weight.dim(0)});
}

/// An optional vector: no view when the tensor is undefined.
template <class T> View<const T> optional_view(const Tensor& tensor) {
  return tensor.defined() ? tensor.view<const T>() : View<const T>{};
}

}  // namespace detail

inline Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  detail::check_linear("linear", x, weight, bias);
  const Tensor y(x.shape().with_last(weight.dim(0)), x.dtype(), x.device());
  visit_float("linear", x.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const kernels::Gemm<T, T> product{.a = x.matrix<const T>(),
                                      .b = weight.view<const T>(),
                                      .transpose_b = true,
                                      .bias = detail::optional_view<T>(bias),
                                      .c = {y.matrix<T>().data}};
    detail::run_gemm(x.device(), product);
    record("linear", y, {x, weight, bias}, {}, [product](const BackwardStep& step) {
      const Device where = step.output.device();
      const View<const T> dy = step.doutput<T>();
      if (const auto dx = step.sink<T>(0))
        detail::run_gemm(where, kernels::Gemm<T, T>{.a = dy, .b = product.b, .c = dx});
      detail::run_weight_gradient<T>(where, dy, product.a, step.sink<A>(1), product.bias ? step.sink<A>(2) : Sink<A>{});
    });
  });
  return y;
}

}  // namespace libtrain
