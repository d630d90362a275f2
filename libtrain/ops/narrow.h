#pragma once
#include "libtrain/ops/copy_strided.h"
#include "libtrain/ops/slice.h"

namespace libtrain {

/// Elements [start, start + length) of dimension `dim`, of which negative ones count from the end.
///   x [..., size, ...] f32, bf16 or f64  →  [..., length, ...]
/// Along the first dimension this is slice(), which shares x's elements; along others a copy. Backward gives zero for the other elements.
/// Throws InvalidArgument for a range outside x.
Tensor narrow(const Tensor& x, int dim, int64_t start, int64_t length);

/// Tensors joined along dimension `dim`: all other sizes are the same.
///   tensors [..., size_i, ...], at least one, f32, bf16 or f64  →  [..., sum of size_i, ...]
/// Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor concat(const std::vector<Tensor>& tensors, int dim);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// Where a part lies in a whole that is [outer, stride] elements: from `offset` on, `run` elements in each of the outer rows.
struct Window {
  int64_t outer, stride, offset, run;
};

/// part (+)= the window of whole.
template <class T> void copy_from_window(Device where, Window w, const T* whole, Sink<T> part) {
  const StridedDim dims[] = {{w.outer, w.stride, w.run}, {w.run, 1, 1}};
  run_copy_strided<T>(where, whole + w.offset, part, dims);
}
/// The window of whole (+)= part.
template <class T> void copy_to_window(Device where, Window w, const T* part, Sink<T> whole) {
  const StridedDim dims[] = {{w.outer, w.run, w.stride}, {w.run, 1, 1}};
  run_copy_strided<T>(where, part, {whole.data + w.offset, whole.accumulate}, dims);
}

/// `length` of the elements of dimension `dim` of a tensor of this shape, from `start` on.
inline Window window_of(const Shape& whole, int dim, int64_t start, int64_t length) {
  int64_t outer = 1, inner = 1;
  for (int d = 0; d < dim; ++d) outer *= whole[d];
  for (int d = dim + 1; d < whole.rank(); ++d) inner *= whole[d];
  return {outer, whole[dim] * inner, start * inner, length * inner};
}

inline Shape with_size(const Shape& shape, int dim, int64_t size) {
  std::vector<int64_t> dims(shape.dims().begin(), shape.dims().end());
  dims[size_t(dim)] = size;
  return Shape(std::span<const int64_t>(dims));
}

/// The shape of what concat returns.
inline Shape concat_shape(const std::vector<Tensor>& tensors, int dim) {
  int64_t total = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const bool fits = tensors[i].defined() && tensors[i].rank() == tensors[0].rank();
    const Shape wanted = with_size(tensors[0].shape(), dim, fits ? tensors[i].dim(dim) : tensors[0].dim(dim));
    check_like("concat", format_message("tensor {}", i).c_str(), tensors[i], tensors[0], wanted);
    total += tensors[i].dim(dim);
  }
  return with_size(tensors[0].shape(), dim, total);
}

}  // namespace detail

inline Tensor narrow(const Tensor& x, int dim, int64_t start, int64_t length) {
  LIBTRAIN_CHECK(x.defined(), "[narrow] expected a tensor, got undefined; assign one to it first");
  const int at = detail::dim_index("narrow", dim, x.rank());
  LIBTRAIN_CHECK(start >= 0 && length >= 0 && start <= x.dim(at) - length,
                 "[narrow] expected elements within dimension {} of {}, got {} from {} on; start counts from 0", at,
                 x.spec(), length, start);
  if (at == 0) return slice(x, start, start + length);
  const Tensor y(detail::with_size(x.shape(), at, length), x.dtype(), x.device());
  const detail::Window window = detail::window_of(x.shape(), at, start, length);
  visit_float("narrow", x.dtype(), [&]<class T> {
    detail::copy_from_window<T>(x.device(), window, x.matrix<const T>().data, {y.matrix<T>().data});
    record("narrow", y, {x}, {}, [window](const BackwardStep& step) {
      const Device where = step.output.device();
      const Sink<T> dx = step.sink<T>(0);
      if (!dx.accumulate) clear_bytes(dx.data, where, size_t(window.outer * window.stride) * sizeof(T));
      detail::copy_to_window<T>(where, window, step.doutput<T>().data, dx);
    });
  });
  return y;
}

inline Tensor concat(const std::vector<Tensor>& tensors, int dim) {
  LIBTRAIN_CHECK(!tensors.empty() && tensors[0].defined(),
                 "[concat] expected at least one tensor, got {}; pass those to be joined", tensors.size());
  const int at = detail::dim_index("concat", dim, tensors[0].rank());
  const Tensor y(detail::concat_shape(tensors, at), tensors[0].dtype(), tensors[0].device());
  std::vector<detail::Window> windows;
  for (int64_t i = 0, start = 0; i < int64_t(tensors.size()); start += tensors[size_t(i++)].dim(at))
    windows.push_back(detail::window_of(y.shape(), at, start, tensors[size_t(i)].dim(at)));
  visit_float("concat", y.dtype(), [&]<class T> {
    for (size_t i = 0; i < tensors.size(); ++i)
      detail::copy_to_window<T>(y.device(), windows[i], tensors[i].matrix<const T>().data, {y.matrix<T>().data});
    record("concat", y, tensors, [windows](const BackwardStep& step) {
      const View<const T> dy = step.doutput<T>();
      for (size_t i = 0; i < windows.size(); ++i)
        if (const Sink<T> part = step.sink<T>(i))
          detail::copy_from_window<T>(step.output.device(), windows[i], dy.data, part);
    });
  });
  return y;
}

}  // namespace libtrain
