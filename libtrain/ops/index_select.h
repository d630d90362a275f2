#pragma once
#include "libtrain/ops/embedding.h"

namespace libtrain {

/// Picks rows of the first dimension: row r of the result is x[index[r]].
///   x [rows, ...] f32, bf16 or f64;  index i32[picks]  →  [picks, ...]
/// Rows may be picked repeatedly; their gradients add up in an order fixed by index, and rows never picked get zero. For a parameter use
/// embedding(), whose gradient is kept in f32. Throws InvalidArgument for arguments that differ from this and, where index is on the CPU,
/// for an entry outside [0, rows); on a device, such an entry gives zeros and is noted.
Tensor index_select(const Tensor& x, const Tensor& index);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

inline void check_index_select(const Tensor& x, const Tensor& index) {
  LIBTRAIN_CHECK(x.defined() && x.rank() >= 1, "[index_select] x must be [rows, ...], got {}; reshape() it", x.spec());
  LIBTRAIN_CHECK(index.defined() && index.rank() == 1,
                 "[index_select] index must be i32[picks], got {}; cast() and reshape() convert", index.spec());
  check_is("index_select", "index", index, DType::i32, x.device(), index.shape());
  if (index.device() != Device::kCpu) return;
  const View<const int32_t> picks = index.view<const int32_t>();
  for (int64_t r = 0; r < picks.size(); ++r)
    LIBTRAIN_CHECK(picks.data[r] >= 0 && picks.data[r] < x.dim(0),
                   "[index_select] index {} at position {} is outside [0, {}), the rows of x; they count from 0",
                   picks.data[r], r, x.dim(0));
}

}  // namespace detail

inline Tensor index_select(const Tensor& x, const Tensor& index) {
  detail::check_index_select(x, index);
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().end());
  dims[0] = index.dim(0);
  const Tensor y(Shape(std::span<const int64_t>(dims)), x.dtype(), x.device());
  int64_t columns = 1;
  for (int d = 1; d < x.rank(); ++d) columns *= x.dim(d);
  visit_float("index_select", x.dtype(), [&]<class T> {
    const kernels::Embedding<T> args{.ids = index.view<const int32_t>(),
                                     .table = {x.matrix<const T>().data, {x.dim(0), columns, 1, 1}},
                                     .position_table = {},
                                     .positions = {},
                                     .y = {y.matrix<T>().data, {index.dim(0), columns, 1, 1}},
                                     .scale = 1,
                                     .pad_id = -1};
    on(x.device(), [&](auto device) { kernels::embedding_forward(device, args); });
    record("index_select", y, {x}, {index}, [args](const BackwardStep& step) {
      detail::run_embedding_backward(step.output.device(), args, step.doutput<T>(), step.sink<T>(0));
    });
  });
  return y;
}

}  // namespace libtrain
