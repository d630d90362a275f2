#pragma once
#include "kernels/scale.h"
#include "libtrain/tape.h"

namespace libtrain {

/// The elements of x in another float dtype, rounded to nearest even where that is the narrower (f64 reaches bf16 by way of
/// f32); x itself if it has that dtype.
///   x of any shape in f32, bf16 or f64  →  the same shape in `dtype`
/// The gradient is rounded to the dtype of x. For example, what follows a sum() of bf16, which is f32, in a layer of bf16 weights. Throws
/// InvalidArgument for integers on either side: the method x.cast() converts those, and is not differentiable.
Tensor cast(const Tensor& x, DType dtype);

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor cast(const Tensor& x, DType dtype) {
  LIBTRAIN_CHECK(x.defined() && is_float(x.dtype()) && is_float(dtype),
                 "[cast] expected to convert a float dtype to another, got {} and {}; the method x.cast() converts "
                 "integers, and is not differentiable",
                 x.spec(), name(dtype));
  if (dtype == x.dtype()) return x;
  const Tensor y = x.detach().cast(dtype);
  record("cast", y, {x}, {}, [from = x.dtype()](const BackwardStep& step) {
    visit_float("cast", from, [&]<class From> {  // which the gradient that arrives is converted to
      const kernels::Scale<From> args{step.doutput<From>(), 1, step.sink<From>(0)};
      on(step.output.device(), [&](auto device) { kernels::scale(device, args); });
    });
  });
  return y;
}

}  // namespace libtrain
