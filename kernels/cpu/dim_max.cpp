#include "kernels/dim_max.h"

#include <cmath>

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// The first place of the largest of `count` neighbours: its value is found first, which vectorises.
template <class T> int64_t place_of_largest(const T* x, int64_t count) {
  using A = accum_t<T>;
  A most = A(x[0]);
  int nans = 0;
#pragma omp simd reduction(max : most) reduction(+ : nans)
  for (int64_t c = 0; c < count; ++c) {
    most = A(x[c]) > most ? A(x[c]) : most;
    nans += A(x[c]) != A(x[c]);
  }
  int64_t place = 0;
  while (nans ? A(x[place]) == A(x[place]) : A(x[place]) != most) ++place;
  return place;
}

/// The same for each of the `inner` neighbours, in each of `count` rows.
template <class T> void largest_of_rows(const T* x, int64_t count, int64_t inner, T* y, int32_t* index) {
  using A = accum_t<T>;
  for (int64_t i = 0; i < inner; ++i) y[i] = x[i], index[i] = 0;
  for (int64_t c = 1; c < count; ++c)
#pragma omp simd
    for (int64_t i = 0; i < inner; ++i) {
      const bool larger = is_larger(A(x[c * inner + i]), A(y[i]));
      y[i] = larger ? x[c * inner + i] : y[i];
      index[i] = larger ? int32_t(c) : index[i];
    }
}

}  // namespace

template <Isa isa, class T> void dim_max_forward(Cpu<isa>, const DimMax<T>& k) {
  const int64_t outer = k.x.dims[0], count = k.x.dims[1], inner = k.x.dims[2];
#pragma omp parallel for schedule(static) if (outer * count * inner > kTeamElements)
  for (int64_t o = 0; o < outer; ++o) {
    const T* x = k.x.data + o * count * inner;
    if (inner == 1) {
      k.index.data[o] = int32_t(place_of_largest(x, count));
      k.y.data[o] = x[k.index.data[o]];
    } else {
      largest_of_rows(x, count, inner, k.y.data + o * inner, k.index.data + o * inner);
    }
  }
}

template <Isa isa, class T> void dim_max_backward(Cpu<isa>, const DimMaxGradient<T>& k) {
  const int64_t outer = k.dy.dims[0], inner = k.dy.dims[1];
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      const int64_t at = o * inner + i;
      put(k.dx[(o * k.count + k.index.data[at]) * inner + i], accum_t<T>(k.dy.data[at]), true);
    }
}

#define INSTANTIATE(T)                                        \
  template void dim_max_forward(Cpu<kIsa>, const DimMax<T>&); \
  template void dim_max_backward(Cpu<kIsa>, const DimMaxGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
