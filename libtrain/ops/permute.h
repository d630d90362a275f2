#pragma once
#include <vector>

#include "libtrain/ops/copy_strided.h"

namespace libtrain {

/// The same elements with their dimensions in another order: dimension i of the result is dimension order[i] of x. A copy.
///   x f32, bf16 or f64 of at most 4 dimensions;  order: each of x's dimensions once, negative ones counted from the end
/// Throws InvalidArgument for another order or rank.
Tensor permute(const Tensor& x, const std::vector<int>& order);

/// x with two of its dimensions exchanged. A copy; products can transpose without one, see matmul().
Tensor transpose(const Tensor& x, int first, int second);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// The block that permute moves, from x to y when `forward`, else back.
inline std::vector<StridedDim> permuted_dims(const Shape& x, const std::vector<int>& order, bool forward) {
  std::vector<int64_t> strides(size_t(x.rank()), 1);
  for (int d = x.rank() - 2; d >= 0; --d) strides[size_t(d)] = strides[size_t(d + 1)] * x[d + 1];
  std::vector<StridedDim> dims(order.size());
  int64_t stride = 1;
  for (size_t i = order.size(); i-- > 0; stride *= x[order[i]])
    dims[i] = {x[order[i]], strides[size_t(order[i])], stride};
  if (forward) return dims;
  std::vector<StridedDim> back(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) back[size_t(order[i])] = {dims[i].size, dims[i].y_stride, dims[i].x_stride};
  return back;
}

inline std::vector<int> check_order(const char* op, const Tensor& x, const std::vector<int>& order) {
  LIBTRAIN_CHECK(x.defined() && x.rank() <= 4,
                 "[{}] expected at most 4 dimensions, got {}; reshape() merges those that stay together", op, x.spec());
  std::vector<int> indices;
  for (const int dim : order) indices.push_back(dim_index(op, dim, x.rank()));
  std::vector<int> sorted = indices;
  std::ranges::sort(sorted);
  const bool distinct = std::ranges::adjacent_find(sorted) == sorted.end();
  LIBTRAIN_CHECK(distinct && int(order.size()) == x.rank(),
                 "[{}] expected each of the {} dimensions of {} once in the order of {}; {{1, 0}} exchanges the "
                 "two of a matrix",
                 op, x.rank(), x.spec(), order.size());
  return indices;
}

/// permute(), called `op` in messages.
inline Tensor permuted(const char* op, const Tensor& x, const std::vector<int>& order) {
  const std::vector<int> indices = check_order(op, x, order);
  std::vector<int64_t> sizes;
  for (const int dim : indices) sizes.push_back(x.dim(dim));
  const Tensor y(Shape(std::span<const int64_t>(sizes)), x.dtype(), x.device());
  visit_float(op, x.dtype(), [&]<class T> {
    const auto there = permuted_dims(x.shape(), indices, true);
    run_copy_strided<T>(x.device(), x.matrix<const T>().data, {y.matrix<T>().data}, there);
    record("permute", y, {x}, {}, [back = permuted_dims(x.shape(), indices, false)](const BackwardStep& step) {
      run_copy_strided<T>(step.output.device(), step.doutput<T>().data, step.sink<T>(0), back);
    });
  });
  return y;
}

/// transpose(), called `op` in messages.
inline Tensor transposed(const char* op, const Tensor& x, int first, int second) {
  LIBTRAIN_CHECK(x.defined(), "[{}] expected a tensor, got undefined; assign one to it first", op);
  std::vector<int> order(size_t(x.rank()));
  for (size_t d = 0; d < order.size(); ++d) order[d] = int(d);
  std::swap(order[size_t(dim_index(op, first, x.rank()))], order[size_t(dim_index(op, second, x.rank()))]);
  return permuted(op, x, order);
}

}  // namespace detail

inline Tensor permute(const Tensor& x, const std::vector<int>& order) { return detail::permuted("permute", x, order); }

inline Tensor transpose(const Tensor& x, int first, int second) {
  return detail::transposed("transpose", x, first, second);
}

}  // namespace libtrain
