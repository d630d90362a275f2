/// How results are compared.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {

inline double largest(const Values& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

/// NaN when one of the two has it at a place.
inline double worst_difference(const Values& a, const Values& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) || std::isnan(b[i])) return NAN;
    if (a[i] != b[i]) worst = std::max(worst, std::abs(a[i] - b[i]));
  }
  return worst;
}
inline double worst_difference(const Tensor& a, const Tensor& b) {
  return worst_difference(values_of(a), values_of(b));
}

inline bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

}  // namespace libtrain::testing
