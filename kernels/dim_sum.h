/// Sums over one dimension, wherever it stands: y[o][i] = scale * sum over c of x[o][c][i], or += that.
/// Backward: dx[o][c][i] = scale * dy[o][i], or += that.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

/// The sum of no elements is 0. From and To are T or accum_t<T>.
template <class From, class To> struct DimSum {
  View<const From> x;  // [outer, count, inner]
  double scale;
  Sink<To> y;                     // [outer, inner]
  View<accum_t<From>> workspace;  // [dim_sum_workspace(device, outer, count, inner)], or none where that is 0
};

template <class T> struct DimSumGradient {
  View<const accum_t<T>> dy;  // [outer, inner]
  double scale;
  Sink<T> dx;  // [outer, count, inner]
  int64_t count;
};

/// Pieces of the dimension whose sums are added up in order: fixed by the shape, so that the result depends neither on threads
/// nor on blocks. Enough to fill a device where sums are few, and never more than 512 for all of them together.
constexpr int64_t dim_sum_pieces(int64_t outer, int64_t count, int64_t inner) {
  const int64_t groups = outer * (inner == 1 ? 1 : (inner + 127) / 128), length = inner == 1 ? 4096 : 64;
  const int64_t wanted = (count + length - 1) / length, most = groups < 512 ? 512 / (groups + !groups) : 1;
  return wanted < 1 ? 1 : wanted < most ? wanted : most;
}

/// Elements of the workspace: the sums of the pieces.
template <Isa isa> constexpr int64_t dim_sum_workspace(Cpu<isa>, int64_t outer, int64_t count, int64_t inner) {
  return dim_sum_pieces(outer, count, inner) * outer * inner;
}
constexpr int64_t dim_sum_workspace(Cuda, int64_t outer, int64_t count, int64_t inner) {
  const int64_t pieces = dim_sum_pieces(outer, count, inner);
  return pieces > 1 ? pieces * outer * inner : 0;
}

template <Isa isa, class From, class To> void dim_sum(Cpu<isa>, const DimSum<From, To>&);
template <class From, class To> void dim_sum(Cuda, const DimSum<From, To>&);

template <Isa isa, class T> void dim_sum_backward(Cpu<isa>, const DimSumGradient<T>&);
template <class T> void dim_sum_backward(Cuda, const DimSumGradient<T>&);

}  // namespace libtrain::kernels
