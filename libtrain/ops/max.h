#pragma once
#include "kernels/dim_max.h"
#include "libtrain/ops/dim_sum.h"

namespace libtrain {

/// The largest elements along a dimension, and where they stand.
struct MaxResult {
  Tensor values;   ///< the other dimensions, in the dtype of x
  Tensor indices;  ///< likewise, i32: of several that are equal, the first; has no gradient
};

/// Along dimension `dim`, negative ones counted from the end. The gradient goes to the element that `indices` names.
///   x [..., size, ...] f32, bf16 or f64, 1 <= size < 2^31
/// NaN counts as larger than any number. Throws InvalidArgument for an integer tensor, a dimension that x does not have, and an empty one.
MaxResult max(const Tensor& x, int dim);

// ---------------------------------------------------------------------------------------------------------------------

inline MaxResult max(const Tensor& x, int dim) {
  const detail::MiddleDim dims = detail::middle_dim("max", x, dim);
  LIBTRAIN_CHECK(
      dims.count >= 1 && dims.count < int64_t(1) << 31,
      "[max] expected at least one element and fewer than 2^31 along dimension {} of {}; reduce another dimension", dim,
      x.spec());
  const Tensor y(dims.others, x.dtype(), x.device()), index(dims.others, DType::i32, x.device());
  visit_float("max", x.dtype(), [&]<class T> {
    const View<const int32_t> places{index.matrix<const int32_t>().data, {dims.outer, dims.inner, 1, 1}};
    const kernels::DimMax<T> args{{x.matrix<const T>().data, {dims.outer, dims.count, dims.inner, 1}},
                                  {y.matrix<T>().data, places.dims},
                                  {index.matrix<int32_t>().data, places.dims}};
    on(x.device(), [&](auto device) { kernels::dim_max_forward(device, args); });
    record("max", y, {x}, {index}, [places, count = dims.count](const BackwardStep& step) {
      const Sink<T> dx = step.sink<T>(0);
      const Device where = step.output.device();
      if (!dx.accumulate) clear_bytes(dx.data, where, size_t(places.size() * count) * sizeof(T));
      const View<const T> dy{step.doutput<T>().data, places.dims};
      on(where, [&](auto device) {
        kernels::dim_max_backward(device, kernels::DimMaxGradient<T>{dy, places, dx.data, count});
      });
    });
  });
  return {y, index};
}

}  // namespace libtrain
