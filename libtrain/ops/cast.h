#pragma once
#include "kernels/convert.h"
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

namespace detail {

template <class From, class To> void convert_into(const View<const From>& from, const Sink<To>& sink, Device device) {
  on(device, [&](auto where) {
    if (!sink.accumulate) return kernels::convert(where, kernels::Convert<From, To>{from, {sink.data, from.dims}});
    const Tensor converted({from.size()}, dtype_of<To>, device);
    const View<To> view = converted.template view<To>();
    kernels::convert(where, kernels::Convert<From, To>{from, view});
    kernels::scale(where, kernels::Scale<To>{view, 1, sink});
  });
}

}  // namespace detail

inline Tensor cast(const Tensor& x, DType dtype) {
  LIBTRAIN_CHECK(x.defined() && is_float(x.dtype()) && is_float(dtype),
                 "[cast] expected to convert a float dtype to another, got {} and {}; the method x.cast() converts "
                 "integers, and is not differentiable",
                 x.spec(), name(dtype));
  if (dtype == x.dtype()) return x;
  const Tensor y = x.detach().cast(dtype);
  record("cast", y, {x}, {}, [numel = x.numel(), from = x.dtype(), dtype](const BackwardStep& step) {
    visit_float("cast", from, [&]<class From> {
      visit_float("cast", dtype, [&]<class To> {
        const View<const To> dy{step.doutput<To>().data, {numel, 1, 1, 1}};
        if (const auto dx = step.sink<From>(0)) detail::convert_into(dy, dx, step.output.device());
      });
    });
  });
  return y;
}

}  // namespace libtrain
