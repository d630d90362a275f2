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
};

}  // namespace libtrain::kernels
