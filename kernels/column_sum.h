/// Sums over the rows of a matrix, e.g. the gradient of a bias: out[c] = sum over rows of x[row][c], or out[c] += that.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct ColumnSum {
  View<const T> x;             // [rows, columns]
  Sink<accum_t<T>> out;        // [columns]
  View<accum_t<T>> workspace;  // [column_sum_blocks(rows), columns]
};

/// Row blocks whose sums are added up in order: fixed by the shape, so that the result does not depend on threads.
constexpr int64_t column_sum_blocks(int64_t rows) { return rows < 1024 ? (rows + 63) / 64 : 16; }

template <Isa isa, class T> void column_sum(Cpu<isa>, const ColumnSum<T>&);
template <class T> void column_sum(Cuda, const ColumnSum<T>&);

}  // namespace libtrain::kernels
