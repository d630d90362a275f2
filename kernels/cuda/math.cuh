/// The functions of CUDA's mathematics library under names that do not depend on the precision: the `Math` of the formulas in
/// kernels/pointwise.h. All are within 2 ulp, erfc(float) within 4 (CUDA C++ Programming Guide, appendix on mathematical functions).
#pragma once
#include "kernels/cuda/common.cuh"

namespace libtrain::kernels {

struct CudaMath {
  __device__ static float exp(float x) { return expf(x); }
  __device__ static double exp(double x) { return ::exp(x); }
  __device__ static float erfc(float x) { return erfcf(x); }
  __device__ static double erfc(double x) { return ::erfc(x); }
  __device__ static float log(float x) { return logf(x); }
  __device__ static double log(double x) { return ::log(x); }
  __device__ static float log1p(float x) { return log1pf(x); }
  __device__ static double log1p(double x) { return ::log1p(x); }
  __device__ static float sqrt(float x) { return sqrtf(x); }
  __device__ static double sqrt(double x) { return ::sqrt(x); }
  __device__ static float tanh(float x) { return tanhf(x); }
  __device__ static double tanh(double x) { return ::tanh(x); }
  /// The other one, where one is NaN.
  __device__ static float max(float x, float y) { return fmaxf(x, y); }
  __device__ static double max(double x, double y) { return fmax(x, y); }
};

/// As Max, in an instruction instead of three: the other one, where one is NaN.
struct MaxNumber : Max {
  template <class A> __device__ static A apply(A a, A b) { return CudaMath::max(a, b); }
};

/// e^x, as exactly as a result of type T shows it. bf16: 2^(x log2(e)) by the hardware's exponential, two instructions for eight; relative
/// error at most 2^-22 + 2^-23 |x|, and 0 below 2^-126.
template <class T> __device__ inline accum_t<T> exp_for(accum_t<T> x) {
  if constexpr (sizeof(T) == 2)
    return ptx::exp2_approx(x * kLog2E);
  else
    return CudaMath::exp(x);
}

}  // namespace libtrain::kernels
