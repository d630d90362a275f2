#pragma once
#include "kernels/rms_norm.h"
#include "libtrain/ops/norm_epsilon.h"
#include "libtrain/tape.h"

namespace libtrain {

/// Root mean square normalization over the last dimension: x / sqrt(mean(x^2) + epsilon) * weight.
///   x [..., columns] f32, bf16 or f64;  weight [columns] of the same dtype  →  the shape and dtype of x
/// Saved for backward: 1/sqrt(mean(x^2) + epsilon) of each row. Source: Zhang and Sennrich, NeurIPS 2019, arXiv 1910.07467.
/// Throws InvalidArgument when shapes, dtypes or devices differ from this, and for an epsilon that is negative or not finite.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon = 1e-5);

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  LIBTRAIN_CHECK(x.defined() && x.rank() >= 1 && x.dim(-1) > 0,
                 "[rms_norm] x must be [..., columns], got {}; reshape() it", x.spec());
  check_like("rms_norm", "weight", weight, x, {x.dim(-1)});
  detail::check_epsilon("rms_norm", epsilon);
  const Tensor y(x.shape(), x.dtype(), x.device());
  const Tensor rstd({x.shape().rows()}, accum_dtype(x.dtype()), x.device());
  visit_float("rms_norm", x.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const kernels::RmsNorm<T> args{x.matrix<const T>(), weight.view<const T>(), y.matrix<T>(), rstd.view<A>(), epsilon};
    on(x.device(), [&](auto device) { kernels::rms_norm_forward(device, args); });
    record("rms_norm", y, {x, weight}, {rstd}, [args](const BackwardStep& step) {
      const Device where = step.output.device();
      on(where, [&](auto device) {
        const int64_t blocks = kernels::rms_norm_blocks(device, args.x.dims[0]);
        const Tensor workspace({blocks, args.x.dims[1]}, dtype_of<A>, where);
        const kernels::RmsNormGradients<T> gradients{step.sink<T>(0), step.sink<A>(1), workspace.view<A>()};
        kernels::rms_norm_backward(device, args, step.doutput<T>(), gradients);
      });
    });
  });
  return y;
}

}  // namespace libtrain
