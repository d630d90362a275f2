/// The largest element along one dimension, wherever it stands, and the first place where it stands:
///   index[o][i] = the first c of the largest x[o][c][i], y[o][i] = x[o][index[o][i]][i]
/// NaN counts as larger than any number. Backward: dx[o][index[o][i]][i] += dy[o][i].
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct DimMax {
  View<const T> x;      // [outer, count, inner], 1 <= count < 2^31
  View<T> y;            // [outer, inner]
  View<int32_t> index;  // [outer, inner]
};

template <class T> struct DimMaxGradient {
  View<const T> dy;           // [outer, inner]
  View<const int32_t> index;  // [outer, inner]
  T* dx;                      // [outer, count, inner]: added to at the largest elements, the others stay as they are
  int64_t count;
};

/// Whether an element takes the place of the largest of those before it.
template <class A> LIBTRAIN_HOST_DEVICE constexpr bool is_larger(A value, A most) {
  return value > most || (value != value && most == most);
}

template <Isa isa, class T> void dim_max_forward(Cpu<isa>, const DimMax<T>&);
template <class T> void dim_max_forward(Cuda, const DimMax<T>&);

template <Isa isa, class T> void dim_max_backward(Cpu<isa>, const DimMaxGradient<T>&);
template <class T> void dim_max_backward(Cuda, const DimMaxGradient<T>&);

}  // namespace libtrain::kernels
