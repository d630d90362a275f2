/// Sums over the rows of a matrix, e.g. the gradient of a bias: out[c] = sum over rows of x[row][c], or out[c] += that.
#pragma once
#include "kernels/dtype.h"
#include "kernels/row_blocks.h"

namespace libtrain::kernels {

template <class T> struct ColumnSum {
  View<const T> x;             // [rows, columns]
  Sink<accum_t<T>> out;        // [columns]
  View<accum_t<T>> workspace;  // [column_sum_blocks(device, rows, columns), columns]
};

/// Row blocks whose sums are added up in order.
template <Isa isa> constexpr int64_t column_sum_blocks(Cpu<isa>, int64_t rows, int64_t /*columns*/) {
  return cpu_row_blocks(rows);
}
/// Enough to fill a device where columns are few, and never more than 512 for all columns together.
constexpr int64_t column_sum_blocks(Cuda, int64_t rows, int64_t columns) {
  const int64_t wanted = (rows + 31) / 32, across = (columns + 127) / 128,
                most = across < 512 ? 512 / (across + !across) : 1;
  return wanted < 1 ? 1 : wanted < most ? wanted : most;
}

template <Isa isa, class T> void column_sum(Cpu<isa>, const ColumnSum<T>&);
template <class T> void column_sum(Cuda, const ColumnSum<T>&);

}  // namespace libtrain::kernels
