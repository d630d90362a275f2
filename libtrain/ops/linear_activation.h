#pragma once
#include "libtrain/ops/bias_activation.h"
#include "libtrain/ops/linear.h"

namespace libtrain {

/// dropout(activation(x weight^T + bias)): the first half of a feed-forward layer.
///   x [tokens, in] f32, bf16 or f64, packed as `packing` says;  weight [out, in], bias [out] of the same dtype  →  [tokens, out]
/// The same as bias_activation(linear(x, weight), bias, …), sources and errors included.
/// With ReLU what stands before it is not kept for backward: one matrix [tokens, out] less. Gradients differ from those of the two operations only
/// where a positive element was so small that y rounds it to 0.
Tensor linear_activation(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation,
                         const Packing& packing, const DropoutSpec& spec);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// activation(x weight^T + bias) by one product, rounded once, recorded nowhere: backward reads what comes before bias and activation, and
/// dropout behind them would be a kernel of its own. kGelu is not for this. On an H200 it takes three fifths of the time of two kernels
/// (gpu_bench, linear_relu and linear_gelu_tanh).
inline Tensor activation_in_product(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation) {
  check_linear("linear_activation", x, weight, bias);
  const Tensor y(x.shape().with_last(weight.dim(0)), x.dtype(), x.device());
  visit_float("linear_activation", x.dtype(), [&]<class T> {
    run_gemm(x.device(),
             kernels::Gemm<T, T>{.a = x.matrix<const T>(),
                                 .b = weight.view<const T>(),
                                 .transpose_b = true,
                                 .bias = bias.view<const T>(),
                                 .activation = activation == Activation::kRelu ? kernels::GemmActivation::kRelu
                                                                               : kernels::GemmActivation::kGeluTanh,
                                 .c = {y.matrix<T>().data}});
  });
  return y;
}

}  // namespace detail

inline Tensor linear_activation(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation,
                                const Packing& packing, const DropoutSpec& spec) {
  if (!Tape::active() && x.device() == Device::kCuda && activation != Activation::kGelu)
    return detail::activation_in_product(x, weight, bias, activation);
  const Tensor inner = linear(x, weight);
  if (activation != Activation::kRelu || !is_last_handle(inner))  // an observer may hold it
    return bias_activation(inner, bias, activation, packing, spec);
  detail::check_bias_activation(inner, bias, packing, spec);
  return detail::relu_over(inner, bias, packing, spec);
}

}  // namespace libtrain
