#pragma once
#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// The sum of `count` neighbours, in as many partial sums as the instruction set has lanes.
template <class T> accum_t<T> sum_of(const T* x, int64_t count) {
  using A = accum_t<T>;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += A(x[i]);
  return sum;
}

}  // namespace
}  // namespace libtrain::kernels
