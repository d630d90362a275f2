#pragma once
#include "kernels/bias_activation.h"
#include "libtrain/ops/dropout.h"

namespace libtrain {

/// What a feed-forward layer applies to each element between its two products.
enum class Activation {
  kRelu,     ///< max(x, 0)
  kGelu,     ///< x * Phi(x)
  kGeluTanh  ///< its approximation through tanh
};

/// dropout(activation(x + bias)) in one pass, the gradient of bias from the pass that makes that of x.
///   x [tokens, columns] f32, bf16 or f64, packed as `packing` says;  bias [columns] of the same dtype  →  the shape and dtype of x
/// The same as add(), relu() or gelu(), and dropout() one after the other, but rounded once. What linear(x, weight) without its bias
/// calls for. Backward overwrites x with its gradient when x was made by a recorded operation and nobody else holds or reads it.
/// Throws InvalidArgument when shapes, dtypes or devices differ from this, and for p outside [0, 1).
Tensor bias_activation(const Tensor& x, const Tensor& bias, Activation activation, const Packing& packing,
                       const DropoutSpec& spec);
/// Without dropout, for x [..., columns].
Tensor bias_activation(const Tensor& x, const Tensor& bias, Activation activation);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

inline void check_bias_activation(const Tensor& x, const Tensor& bias, const Packing& packing,
                                  const DropoutSpec& spec) {
  LIBTRAIN_CHECK(x.defined() && x.rank() >= 1, "[bias_activation] x must be [..., columns], got {}; reshape() it",
                 x.spec());
  check_like("bias_activation", "bias", bias, x, {x.dim(-1)});
  check_dropout("bias_activation", x, packing, spec);
}

/// The gradients of x and bias, with dy times `scale`.
template <class F, class T>
void bias_activation_gradients(const BackwardStep& step, const kernels::BiasActivation<T>& args, float scale) {
  using A = accum_t<T>;
  const Device where = step.output.device();
  on(where, [&](auto device) {
    const int64_t columns = args.x.dims[1];
    const int64_t blocks = kernels::bias_activation_blocks(device, args.x.dims[0], columns);
    const Tensor workspace({blocks, columns}, dtype_of<A>, where);
    const kernels::BiasActivationGradients<T> gradients{step.sink_in_place<T>(0), step.sink<A>(1), workspace.view<A>(),
                                                        scale};
    kernels::bias_activation_backward<F>(device, args, step.doutput<T>(), gradients);
  });
}

/// What forward reads and writes.
template <class T> kernels::BiasActivation<T> bias_activation_arguments(const Tensor& x, const Tensor& bias,
                                                                        const Tensor& y, const Packing& packing,
                                                                        const DropoutSpec& spec) {
  return {x.matrix<const T>(), bias.view<const T>(), y.matrix<T>(),
          spec.active() ? dropout_mask(packing, spec) : kernels::DropoutMask{}};
}

/// The activation is the formula F.
template <class F>
Tensor bias_activation_by(const Tensor& x, const Tensor& bias, const Packing& packing, const DropoutSpec& spec) {
  const Tensor y(x.shape(), x.dtype(), x.device());
  const bool drops = spec.active();
  visit_float("bias_activation", x.dtype(), [&]<class T> {
    const auto args = bias_activation_arguments<T>(x, bias, y, packing, spec);
    on(x.device(), [&](auto device) { kernels::bias_activation_forward<F>(device, args); });
    const auto saved = [&](const Tensor& tensor) { return drops ? tensor : Tensor(); };
    record("bias_activation", y, {x, bias},
           {saved(packing.sequences), saved(packing.positions), saved(spec.random_state)},
           [args](const BackwardStep& step) { bias_activation_gradients<F>(step, args, 1); });
  });
  return y;
}

/// ReLU written over x, which must be nobody else's: backward reads y alone, so that one matrix is kept and not two, and draws no random bits.
inline Tensor relu_over(const Tensor& x, const Tensor& bias, const Packing& packing, const DropoutSpec& spec) {
  const Tensor y = x.detach();
  visit_float("bias_activation", x.dtype(), [&]<class T> {
    const auto args = bias_activation_arguments<T>(x, bias, y, packing, spec);
    on(x.device(), [&](auto device) { kernels::bias_activation_forward<kernels::Relu>(device, args); });
    const kernels::BiasActivation<T> from_y{.x = args.x, .bias = {}, .y = {}, .mask = {}};
    const float scale = spec.active() ? dropout_scale(spec.p) : 1;
    record("bias_activation", y, {x, bias}, {y},
           [=](const BackwardStep& step) { bias_activation_gradients<kernels::Relu>(step, from_y, scale); });
  });
  return y;
}

}  // namespace detail

inline Tensor bias_activation(const Tensor& x, const Tensor& bias, Activation activation, const Packing& packing,
                              const DropoutSpec& spec) {
  detail::check_bias_activation(x, bias, packing, spec);
  switch (activation) {
    case Activation::kRelu:
      return detail::bias_activation_by<kernels::Relu>(x, bias, packing, spec);
    case Activation::kGelu:
      return detail::bias_activation_by<kernels::GeluErf>(x, bias, packing, spec);
    case Activation::kGeluTanh:
      break;
  }
  return detail::bias_activation_by<kernels::GeluTanh>(x, bias, packing, spec);
}

inline Tensor bias_activation(const Tensor& x, const Tensor& bias, Activation activation) {
  return bias_activation(x, bias, activation, Packing{}, DropoutSpec{});
}

}  // namespace libtrain
