/// What all operations on single elements have in common; each operation's header is its manual.
#pragma once
#include "kernels/pointwise.h"
#include "libtrain/tape.h"

namespace libtrain::detail {

/// F applied to every element of x, recorded as `op`. Throws InvalidArgument naming `op` for an integer tensor.
template <class F> Tensor pointwise(const char* op, const Tensor& x) {
  const Tensor y(x.shape(), x.dtype(), x.device());
  visit_float(op, x.dtype(), [&]<class T> {
    const kernels::Pointwise<T> args{x.matrix<const T>(), y.matrix<T>()};
    on(x.device(), [&](auto device) { kernels::pointwise_forward<F>(device, args); });
    record(op, y, {x}, {}, [args](const BackwardStep& step) {
      const kernels::PointwiseGradient<T> gradient{args.x, step.doutput<T>(), step.sink_in_place<T>(0)};
      on(step.output.device(), [&](auto device) { kernels::pointwise_backward<F>(device, gradient); });
    });
  });
  return y;
}

}  // namespace libtrain::detail
