/// Sums over the rows' elements: y[r] = scale * sum over c of x[r][c]. Backward: dx[r][c] = scale * dy[r], or += that.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

/// The sum of no columns is 0.
template <class T> struct RowSum {
  View<const T> x;  // [rows, columns]
  double scale;
  View<accum_t<T>> y;          // [rows]
  View<accum_t<T>> workspace;  // [row_sum_workspace(device, rows, columns)], or none where that is 0
};

template <class T> struct RowSumGradient {
  View<const accum_t<T>> dy;  // [rows]
  double scale;
  Sink<T> dx;  // [rows, columns]
  int64_t columns;
};

/// Pieces whose sums are added up in order: fixed by the shape, so that the result depends neither on threads nor on blocks.
constexpr int64_t kRowSumPiece = 4096;
/// CUDA: at most so many pieces a row; beyond, they are longer. Where there are so many rows, each is one piece.
constexpr int64_t kRowSumPieces = 256;
constexpr int64_t row_sum_pieces(int64_t columns) { return (columns + kRowSumPiece - 1) / kRowSumPiece; }

/// Elements of the workspace: sums of pieces.
template <Isa isa> constexpr int64_t row_sum_workspace(Cpu<isa>, int64_t rows, int64_t columns) {
  return rows * row_sum_pieces(columns);
}
constexpr int64_t row_sum_workspace(Cuda, int64_t rows, int64_t columns) {
  if (rows >= kRowSumPieces || columns <= kRowSumPiece) return 0;
  return rows * (row_sum_pieces(columns) < kRowSumPieces ? row_sum_pieces(columns) : kRowSumPieces);
}

template <Isa isa, class T> void row_sum_forward(Cpu<isa>, const RowSum<T>&);
template <class T> void row_sum_forward(Cuda, const RowSum<T>&);

template <Isa isa, class T> void row_sum_backward(Cpu<isa>, const RowSumGradient<T>&);
template <class T> void row_sum_backward(Cuda, const RowSumGradient<T>&);

}  // namespace libtrain::kernels
