/// An exponential that the compiler can vectorize: no branches, no tables, no calls.
#pragma once
#include <bit>
#include <cmath>

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// e^x with an error of at most 1.5 ulp, 0 below -104, infinity above 88.73, subnormal in between; NaN stays NaN.
/// With n = round(x / ln 2) and r = x - n ln 2 in [-0.35, 0.35]: e^x = 2^n e^r. e^r is a minimax polynomial of degree 7
/// (coefficients of S. Moshier's Cephes library, expf), ln 2 is split in two so that r is exact, and 2^n is applied as
/// two factors so that neither overflows.
LIBTRAIN_INLINE float vexp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
  x = x > 89.0f ? 89.0f : x;
  x = x < -104.0f ? -104.0f : x;
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const int32_t half = exponent >> 1, rest = exponent - half;
  return p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((rest + 127) << 23);
}

LIBTRAIN_INLINE double vexp(double x) { return std::exp(x); }

}  // namespace
}  // namespace libtrain::kernels
