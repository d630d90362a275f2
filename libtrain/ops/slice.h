#pragma once
#include "kernels/copy_rows.h"
#include "libtrain/tape.h"

namespace libtrain {

/// Rows [begin, end) of the first dimension, sharing the elements of x: no copy.
///   x [rows, ...] f32, bf16 or f64  →  [end - begin, ...]
/// Backward gives zero for the other rows. The gradient has the type in which the users of the slice write it, so
/// slices of a parameter serve as parameters. Throws InvalidArgument for a range outside x.
Tensor slice(const Tensor& x, int64_t begin, int64_t end);

// ---------------------------------------------------------------------------------------------------------------------

inline Tensor slice(const Tensor& x, int64_t begin, int64_t end) {
  LIBTRAIN_CHECK(x.rank() >= 1 && begin >= 0 && begin <= end && end <= x.dim(0),
                 "[slice] expected 0 <= begin <= end <= the first dimension of {}, got begin {} and end {}; end is one "
                 "past the last",
                 x.spec(), begin, end);
  const Tensor part = x.detach().rows(begin, end);
  const int64_t rows = x.dim(0), columns = rows ? x.numel() / rows : 0;
  record("slice", part, {x}, {}, [=](const BackwardStep& step) {
    const Tensor dy = step.output.grad();
    visit_float("slice", dy.dtype(), [&]<class T> {
      const View<const T> flat = dy.matrix<const T>();
      const kernels::CopyRows<T> args{{flat.data, {end - begin, columns, 1, 1}}, {}, begin, step.sink<T>(0), rows};
      on(step.output.device(), [&](auto device) { kernels::copy_rows(device, args); });
    });
  });
  return part;
}

}  // namespace libtrain
