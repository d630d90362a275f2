/// The same value in every element: y[i] = value.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

/// Instantiated for float, bf16, double, int32_t and int64_t.
template <class T> struct Fill {
  View<T> y;
  T value;
};

template <Isa isa, class T> void fill(Cpu<isa>, const Fill<T>&);
template <class T> void fill(Cuda, const Fill<T>&);

}  // namespace libtrain::kernels
