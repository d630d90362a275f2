/// Tensors of random numbers.
#pragma once
#include "op_cases.h"

namespace libtrain::testing {

/// Normal numbers, rounded to `dtype`. Same seed, same values.
inline Tensor normal_tensor(const Shape& shape, DType dtype, uint64_t seed = 3) {
  Values values(static_cast<size_t>(shape.numel()));
  Generator generator(seed);
  normal()(values, generator);
  return Tensor::from(std::span<const double>(values), shape).cast(dtype);
}

}  // namespace libtrain::testing
