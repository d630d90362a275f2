/// Logits and targets of the tests of cross-entropies.
#pragma once
#include <limits>

#include "normal_tensor.h"

namespace libtrain::testing {

inline constexpr double kInf = std::numeric_limits<double>::infinity();

inline Tensor random(const Shape& shape, DType dtype = DType::f64, uint64_t seed = 3) {
  return normal_tensor(shape, dtype, seed);
}

inline Tensor ids(std::initializer_list<int32_t> values) { return Tensor::from(values, {int64_t(values.size())}); }

inline Tensor random_targets(int64_t rows, int64_t vocab) {
  Values values(static_cast<size_t>(rows));
  Generator generator(9);
  integers(0, vocab)(values, generator);
  for (size_t i = 2; i < values.size(); i += 5) values[i] = -100;
  return Tensor::from(std::span<const double>(values), {rows}).cast(DType::i32);
}

}  // namespace libtrain::testing
