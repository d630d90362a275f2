#pragma once
#include "kernels/layer_norm.h"
#include "libtrain/ops/norm_epsilon.h"
#include "libtrain/tape.h"

namespace libtrain {

/// Layer normalization over the last dimension: (x - mean) / sqrt(variance + epsilon) * weight + bias.
///   x [..., columns] f32, bf16 or f64;  weight, bias [columns] of the same dtype  →  the shape and dtype of x
/// Saved for backward: mean and 1/sqrt(variance + epsilon) of each row. Source: Ba, Kiros, Hinton, arXiv 1607.06450.
/// Throws InvalidArgument when shapes, dtypes or devices differ from this, and for an epsilon that is negative or not finite.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon = 1e-5);

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  LIBTRAIN_CHECK(x.rank() >= 1 && x.dim(-1) > 0, "[layer_norm] x must be [..., columns], got {}; reshape() it",
                 x.spec());
  check_like("layer_norm", "weight", weight, x, {x.dim(-1)});
  check_like("layer_norm", "bias", bias, x, {x.dim(-1)});
  detail::check_epsilon("layer_norm", epsilon);
  const int64_t rows = x.shape().rows();
  const Tensor y(x.shape(), x.dtype(), x.device());
  const Tensor mean({rows}, accum_dtype(x.dtype()), x.device()), rstd({rows}, accum_dtype(x.dtype()), x.device());
  visit_float("layer_norm", x.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const kernels::LayerNorm<T> args{x.matrix<const T>(),
                                     weight.view<const T>(),
                                     bias.view<const T>(),
                                     y.matrix<T>(),
                                     mean.view<A>(),
                                     rstd.view<A>(),
                                     epsilon};
    on(x.device(), [&](auto device) { kernels::layer_norm_forward(device, args); });
    record("layer_norm", y, {x, weight, bias}, {mean, rstd}, [args](const BackwardStep& step) {
      const Device where = step.output.device();
      on(where, [&](auto device) {
        const int64_t blocks = kernels::layer_norm_blocks(device, args.x.dims[0]);
        const Tensor workspace({blocks, 2, args.x.dims[1]}, dtype_of<A>, where);
        const kernels::LayerNormGradients<T> gradients{step.sink<T>(0), step.sink<A>(1), step.sink<A>(2),
                                                       workspace.view<A>()};
        kernels::layer_norm_backward(device, args, step.doutput<T>(), gradients);
      });
    });
  });
  return y;
}

}  // namespace libtrain
