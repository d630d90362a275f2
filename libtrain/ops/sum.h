#pragma once
#include "kernels/row_sum.h"
#include "libtrain/ops/dim_sum.h"

namespace libtrain {

/// The sum of all elements, a scalar; of no elements, 0.
///   x f32, bf16 or f64  →  [] in f32 (f64 for f64)
/// Summed in pieces of a fixed length, so that the result does not depend on threads. Throws InvalidArgument for an integer tensor.
Tensor sum(const Tensor& x);
/// The sums along dimension `dim`, negative ones counted from the end.
///   x [..., size, ...] f32, bf16 or f64  →  the other dimensions, in f32 (f64 for f64)
/// Otherwise as above; also throws InvalidArgument for a dimension that x does not have.
Tensor sum(const Tensor& x, int dim);

/// The mean of all elements, a scalar, and the means along a dimension; otherwise as sum(). Of no elements: NaN.
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, int dim);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// scale * the sums of x's rows, when it is seen as a matrix of `columns` columns; of shape `result`.
inline Tensor row_sums(const char* op, const Tensor& x, const Shape& result, int64_t columns, double scale) {
  const int64_t rows = result.numel();
  const Tensor y(result, accum_dtype(x.dtype()), x.device());
  visit_float(op, x.dtype(), [&]<class T> {
    using A = accum_t<T>;
    on(x.device(), [&](auto device) {
      const Tensor workspace({kernels::row_sum_workspace(device, rows, columns)}, dtype_of<A>, x.device());
      const View<const T> matrix{x.matrix<const T>().data, {rows, columns, 1, 1}};
      kernels::row_sum_forward(device, kernels::RowSum<T>{matrix, scale, y.matrix<A>(), workspace.view<A>()});
    });
    record(op, y, {x}, {}, [=](const BackwardStep& step) {
      const View<const A> dy{step.doutput<A>().data, {rows, 1, 1, 1}};
      const kernels::RowSumGradient<T> gradient{dy, scale, step.sink<T>(0), columns};
      on(step.output.device(), [&](auto device) { kernels::row_sum_backward(device, gradient); });
    });
  });
  return y;
}

/// scale * the sums of x [dims] over the middle one; of shape `result`.
inline Tensor middle_sums(const char* op, const Tensor& x, const Shape& result, const MiddleDim& dims, double scale) {
  const Tensor y(result, accum_dtype(x.dtype()), x.device());
  visit_float(op, x.dtype(), [&]<class T> {
    using A = accum_t<T>;
    run_dim_sum<T, A>(x.device(), x.matrix<const T>().data, dims, scale, {y.matrix<A>().data});
    record(op, y, {x}, {}, [=](const BackwardStep& step) {
      const View<const A> dy{step.doutput<A>().data, {dims.outer, dims.inner, 1, 1}};
      const kernels::DimSumGradient<T> gradient{dy, scale, step.sink<T>(0), dims.count};
      on(step.output.device(), [&](auto device) { kernels::dim_sum_backward(device, gradient); });
    });
  });
  return y;
}

inline Tensor all_sum(const char* op, const Tensor& x, bool mean) {
  LIBTRAIN_CHECK(x.defined(), "[{}] expected a tensor, got undefined; assign one to it first", op);
  return row_sums(op, x, {}, x.numel(), mean ? 1 / double(x.numel()) : 1);
}

inline Tensor sum_along(const char* op, const Tensor& x, int dim, bool mean) {
  const MiddleDim dims = middle_dim(op, x, dim);
  const double scale = mean ? 1 / double(dims.count) : 1;
  return dims.inner == 1 ? row_sums(op, x, dims.others, dims.count, scale)
                         : middle_sums(op, x, dims.others, dims, scale);
}

}  // namespace detail

inline Tensor sum(const Tensor& x) { return detail::all_sum("sum", x, false); }
inline Tensor sum(const Tensor& x, int dim) { return detail::sum_along("sum", x, dim, false); }
inline Tensor mean(const Tensor& x) { return detail::all_sum("mean", x, true); }
inline Tensor mean(const Tensor& x, int dim) { return detail::sum_along("mean", x, dim, true); }

}  // namespace libtrain
