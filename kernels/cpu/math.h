/// The functions that the formulas of kernels/pointwise.h use: in float without branches or calls, so that loops over them
/// vectorize; in double, which gradient checks use, those of the standard library.
#pragma once
#include <bit>
#include <cmath>
#include <limits>

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

  /// Within 1 ulp, also of subnormal numbers. x = m * 2^n with m in [sqrt(1/2), sqrt(2)); log(m) is a polynomial in m - 1
  /// (coefficients of S. Moshier's Cephes library, logf), and n ln 2 is added in two parts.
  LIBTRAIN_INLINE static float log(float x) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const bool subnormal = x < std::numeric_limits<float>::min();
    const uint32_t bits = std::bit_cast<uint32_t>(subnormal ? x * 8388608.0f : x), above = bits - 0x3F3504F3u;
    const float n = float((int32_t(above) >> 23) - (subnormal ? 23 : 0));
    const float m = std::bit_cast<float>(bits - (above & ~0x7FFFFFu)) - 1.0f;
    const float log_m = m + (m * (m * m) * log_tail(m) - 0.5f * (m * m) - n * 2.12194440e-4f);
    const float finite = log_m + n * 0.693359375f, special = x == 0.0f ? -kInfinity : x + kInfinity;
    return x < 0.0f ? std::numeric_limits<float>::quiet_NaN() : x > 0.0f && x < kInfinity ? finite : special;
  }
  LIBTRAIN_INLINE static double log(double x) { return std::log(x); }

  /// log(1 + x) for x from 0 to 1, within 3 ulp: what 1 + x loses when it is rounded is made up for in first order.
  LIBTRAIN_INLINE static float log1p(float x) {
    const float u = 1.0f + x;
    return log(u) + (x - (u - 1.0f)) / u;
  }
  LIBTRAIN_INLINE static double log1p(double x) { return std::log1p(x); }

  LIBTRAIN_INLINE static float sqrt(float x) { return std::sqrt(x); }
  LIBTRAIN_INLINE static double sqrt(double x) { return std::sqrt(x); }

  /// Within 2 ulp. Below |x| = 0.625 an odd polynomial (coefficients of Cephes, tanhf), beyond through exp(-2 |x|).
  LIBTRAIN_INLINE static float tanh(float x) {
    const float z = x < 0.0f ? -x : x, e = exp(-2.0f * z), outer = 1.0f - 2.0f * e / (1.0f + e);
    return z < 0.625f ? x + x * (x * x) * tanh_tail(x * x) : x < 0.0f ? -outer : outer;
  }
  LIBTRAIN_INLINE static double tanh(double x) { return std::tanh(x); }

 private:
  /// (log(1 + m) - m + m^2 / 2) / m^3 for 1 + m in [sqrt(1/2), sqrt(2))
  LIBTRAIN_INLINE static float log_tail(float m) {
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    return p * m + 3.3333331174e-1f;
  }

  /// (tanh(x) - x) / x^3 as a polynomial in t = x * x, for |x| up to 0.625
  LIBTRAIN_INLINE static float tanh_tail(float t) {
    float p = -5.70498872745e-3f;
    p = p * t + 2.06390887954e-2f;
    p = p * t - 5.37397155531e-2f;
    p = p * t + 1.33314422036e-1f;
    return p * t - 3.33332819422e-1f;
  }

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
