#include "kernels/dim_sum.h"

#include "kernels/cpu/reductions.h"

namespace libtrain::kernels {
namespace {

/// sums[i] = the sum over `count` rows of x [count, inner].
template <class From> void sum_rows(const From* x, int64_t count, int64_t inner, accum_t<From>* sums) {
  using A = accum_t<From>;
  if (inner == 1) return void(*sums = sum_of(x, count));
  for (int64_t i = 0; i < inner; ++i) sums[i] = 0;
  for (int64_t c = 0; c < count; ++c)
#pragma omp simd
    for (int64_t i = 0; i < inner; ++i) sums[i] += A(x[c * inner + i]);
}

}  // namespace

template <Isa isa, class From, class To> void dim_sum(Cpu<isa>, const DimSum<From, To>& k) {
  using A = accum_t<From>;
  const int64_t outer = k.x.dims[0], count = k.x.dims[1], inner = k.x.dims[2];
  const int64_t pieces = dim_sum_pieces(outer, count, inner), size = outer * inner;
#pragma omp parallel for schedule(static) if (size * count > kTeamElements)
  for (int64_t item = 0; item < outer * pieces; ++item) {
    const int64_t o = item / pieces, piece = item % pieces;
    const int64_t begin = count * piece / pieces, end = count * (piece + 1) / pieces;
    sum_rows(k.x.data + (o * count + begin) * inner, end - begin, inner, k.workspace.data + piece * size + o * inner);
  }
  for (int64_t i = 0; i < size; ++i) {
    A sum = 0;
    for (int64_t piece = 0; piece < pieces; ++piece) sum += k.workspace.data[piece * size + i];
    put(k.y.data[i], sum * A(k.scale), k.y.accumulate);
  }
}

template <Isa isa, class T> void dim_sum_backward(Cpu<isa>, const DimSumGradient<T>& k) {
  using A = accum_t<T>;
  const int64_t outer = k.dy.dims[0], inner = k.dy.dims[1];
  const A scale = A(k.scale);
#pragma omp parallel for schedule(static) if (outer * k.count * inner > kTeamElements)
  for (int64_t row = 0; row < outer * k.count; ++row) {
    const A* dy = k.dy.data + row / k.count * inner;
    T* dx = k.dx.data + row * inner;
#pragma omp simd
    for (int64_t i = 0; i < inner; ++i) put(dx[i], dy[i] * scale, k.dx.accumulate);
  }
}

#define INSTANTIATE(From, To) template void dim_sum(Cpu<kIsa>, const DimSum<From, To>&);
INSTANTIATE(float, float)
INSTANTIATE(float, bf16)
INSTANTIATE(bf16, float)
INSTANTIATE(bf16, bf16)
INSTANTIATE(double, double)
#define INSTANTIATE_BACKWARD(T) template void dim_sum_backward(Cpu<kIsa>, const DimSumGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE_BACKWARD)

}  // namespace libtrain::kernels
