/// A block of up to four dimensions copied between two arrays in which it lies with any strides:
///   y[sum of i_k * y_strides[k]] = x[sum of i_k * x_strides[k]] for all i, or += that
/// Permutations of dimensions, slices and concatenations are such copies. Elements of y outside of the block stay as they are.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct CopyStrided {
  const T* x;
  Sink<T> y;
  std::array<int64_t, 4> sizes;      // outermost first; unused ones are 1
  std::array<int64_t, 4> x_strides;  // in elements
  std::array<int64_t, 4> y_strides;  // likewise; the last is 1, and no element of y is reached twice
};

template <Isa isa, class T> void copy_strided(Cpu<isa>, const CopyStrided<T>&);
template <class T> void copy_strided(Cuda, const CopyStrided<T>&);

}  // namespace libtrain::kernels
