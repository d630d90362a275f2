#pragma once
#include "kernels/add.h"
#include "kernels/scale.h"
#include "libtrain/ops/gemm.h"
#include "libtrain/tape.h"

namespace libtrain {

/// a + b: a residual of the same shape, or a bias added to every row.
///   a [..., columns] f32, bf16 or f64;  b of the shape of a, or [columns];  same dtype  →  the shape and dtype of a
/// A bias is a parameter: its gradient is kept in f32 (f64 for f64). Where a has rank 1 too, b counts as a residual.
/// Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor add(const Tensor& a, const Tensor& b);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

template <class T> void residual_backward(const BackwardStep& step, size_t input) {
  const kernels::Scale<T> args{step.doutput<T>(), 1, step.sink<T>(input)};
  if (args.y) on(step.output.device(), [&](auto device) { kernels::scale(device, args); });
}

}  // namespace detail

inline Tensor add(const Tensor& a, const Tensor& b) {
  const bool bias = b.defined() && b.rank() == 1 && a.rank() > 1;
  check_like("add", "b", b, a, bias ? Shape{a.dim(-1)} : a.shape());
  const Tensor y(a.shape(), a.dtype(), a.device());
  visit_float("add", a.dtype(), [&]<class T> {
    const kernels::Add<T> args{a.matrix<const T>(), b.matrix<const T>(), y.matrix<T>()};
    on(a.device(), [&](auto device) { kernels::add(device, args); });
    record("add", y, {a, b}, {}, [bias](const BackwardStep& step) {
      detail::residual_backward<T>(step, 0);
      if (bias)
        detail::run_column_sum(step.output.device(), step.doutput<T>(), step.sink<accum_t<T>>(1));
      else
        detail::residual_backward<T>(step, 1);
    });
  });
  return y;
}

}  // namespace libtrain
