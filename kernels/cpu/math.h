/// exp and erfc for the formulas of kernels/pointwise.h: in float without branches or calls, so that loops over them
/// vectorize; in double, which gradient checks use, those of the standard library.
#pragma once
#include <cmath>

#include "kernels/cpu/exp.h"

namespace libtrain::kernels {
namespace {

struct CpuMath {
  LIBTRAIN_INLINE static float exp(float x) { return vexp(x); }
  LIBTRAIN_INLINE static double exp(double x) { return vexp(x); }

  /// Within 2.1e-7 of erfc(x), which reaches 2. Below |x| = 1 as 1 - erf(x), beyond as the tail
  /// erfcx(|x|) * exp(-x * x), mirrored for negative x.
  LIBTRAIN_INLINE static float erfc(float x) {
    const float z = x < 0.0f ? -x : x, inner = 1.0f - x * erf_over_x(x * x);
    const float tail = erfcx(z > 11.0f ? 11.0f : z) * exp(-z * z), outer = x < 0.0f ? 2.0f - tail : tail;
    return z < 1.0f ? inner : outer;
  }
  LIBTRAIN_INLINE static double erfc(double x) { return std::erfc(x); }

 private:
  /// erf(x) / x as a polynomial in t = x * x, minimax on [0, 1] (relative error 1.2e-9).
  LIBTRAIN_INLINE static float erf_over_x(float t) {
    float p = 7.85386063e-5f;
    p = p * t - 8.01019366e-4f;
    p = p * t + 5.18832773e-3f;
    p = p * t - 2.6853812e-2f;
    p = p * t + 1.12835852e-1f;
    p = p * t - 3.76126258e-1f;
    return p * t + 1.12837917f;
  }

  /// erfc(z) * exp(z * z) as P(s) / (z + 3), s = (z - 3) / (z + 3), P minimax for z on [1, 11] (relative error 2.9e-8).
  /// Beyond 10.1 erfc(z) is below the range of float.
  LIBTRAIN_INLINE static float erfcx(float z) {
    const float r = 1.0f / (z + 3.0f), s = (z - 3.0f) * r;
    float p = 2.63887598e-3f;
    p = p * s - 1.4628971e-3f;
    p = p * s - 2.66937723e-2f;
    p = p * s + 1.19564863e-1f;
    p = p * s - 3.10482033e-1f;
    p = p * s + 5.90226611e-1f;
    p = p * s - 8.83394035e-1f;
    p = p * s + 1.07400692f;
    return p * r;
  }
};

}  // namespace
}  // namespace libtrain::kernels
