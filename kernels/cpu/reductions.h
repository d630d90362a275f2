/// Reductions of neighbours, in as many lanes as the instruction set has.
#pragma once
#include <limits>

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// The sum of `count` neighbours, in as many partial sums as there are lanes.
template <class T> accum_t<T> sum_of(const T* x, int64_t count) {
  using A = accum_t<T>;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += A(x[i]);
  return sum;
}

/// The largest of `count` neighbours that are numbers, -infinity of none. A NaN is passed over: it comes back in through what is taken relative to
/// the result.
template <class T> accum_t<T> largest_of(const T* x, int64_t count) {
  using A = accum_t<T>;
  A most = -std::numeric_limits<A>::infinity();
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < count; ++i) most = A(x[i]) > most ? A(x[i]) : most;
  return most;
}

}  // namespace
}  // namespace libtrain::kernels
