#include "kernels/row_sum.h"

#include "kernels/cpu/reductions.h"

namespace libtrain::kernels {
namespace {

template <class T> void spread(accum_t<T> value, int64_t count, Sink<T> dx) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) put(dx.data[i], value, dx.accumulate);
}

}  // namespace

template <Isa isa, class T> void row_sum_forward(Cpu<isa>, const RowSum<T>& k) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int64_t pieces = row_sum_pieces(columns);
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t i = 0; i < rows * pieces; ++i) {
    const int64_t row = i / pieces, begin = i % pieces * kRowSumPiece, left = columns - begin;
    k.workspace.data[i] = sum_of(k.x.data + row * columns + begin, left < kRowSumPiece ? left : kRowSumPiece);
  }
  for (int64_t row = 0; row < rows; ++row) {
    A sum = 0;
    for (int64_t piece = 0; piece < pieces; ++piece) sum += k.workspace.data[row * pieces + piece];
    k.y.data[row] = sum * A(k.scale);
  }
}

template <Isa isa, class T> void row_sum_backward(Cpu<isa>, const RowSumGradient<T>& k) {
  using A = accum_t<T>;
  const int64_t rows = k.dy.size(), pieces = row_sum_pieces(k.columns);
#pragma omp parallel for schedule(static) if (rows * k.columns > kTeamElements)
  for (int64_t i = 0; i < rows * pieces; ++i) {
    const int64_t row = i / pieces, begin = i % pieces * kRowSumPiece, left = k.columns - begin;
    spread(k.dy.data[row] * A(k.scale), left < kRowSumPiece ? left : kRowSumPiece,
           Sink<T>{k.dx.data + row * k.columns + begin, k.dx.accumulate});
  }
}

#define INSTANTIATE(T)                                        \
  template void row_sum_forward(Cpu<kIsa>, const RowSum<T>&); \
  template void row_sum_backward(Cpu<kIsa>, const RowSumGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
