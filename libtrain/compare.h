/// Whether two tensors hold the same values, and if not, where they differ most.
#pragma once
#include <string>

#include "libtrain/tensor.h"

namespace libtrain {

/// |a - b| <= absolute + relative * |b|. Zeros: exactly equal (0 and -0 are). NaN equals NaN only if `equal_nan`.
struct Tolerance {
  double relative = 1e-5, absolute = 1e-8;  // both >= 0; the first is a share of the second tensor's element
  bool equal_nan = false;                   // also of different signs or payloads
};

/// Empty when every element of `a` is within the tolerance of the same of `b`. Otherwise one sentence that names the element furthest beyond
/// it: "[1, 2]: 3.5 and 3.6 differ by 0.1, 3.7e-05 allowed; so do 4 of 12 elements", or the difference in shape. Dtypes and devices may differ.
std::string difference(const Tensor& a, const Tensor& b, const Tolerance& tolerance = {});

/// Whether difference() finds none.
inline bool all_close(const Tensor& a, const Tensor& b, const Tolerance& tolerance = {}) {
  return difference(a, b, tolerance).empty();
}

}  // namespace libtrain
