/// Naive forward computations in double, written from the definitions: the truth that the table holds the kernels to.
#pragma once
#include <cmath>

#include "op_cases.h"

namespace libtrain::testing {

/// in: x [rows, columns], weight [columns], bias [columns]
inline Values layer_norm_reference(const Inputs& in, int64_t columns, double epsilon) {
  Values y(in[0].size());
  for (size_t first = 0; first < y.size(); first += size_t(columns)) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < columns; ++c) mean += in[0][first + size_t(c)] / double(columns);
    for (int64_t c = 0; c < columns; ++c) variance += std::pow(in[0][first + size_t(c)] - mean, 2) / double(columns);
    for (int64_t c = 0; c < columns; ++c)
      y[first + size_t(c)] = (in[0][first + size_t(c)] - mean) / std::sqrt(variance + epsilon) * in[1][size_t(c)] + in[2][size_t(c)];
  }
  return y;
}

}  // namespace libtrain::testing
