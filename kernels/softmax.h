/// Softmax over the rows' elements, or its logarithm: with m the largest x[r][c] of row r and s the sum of exp(x[r][c] - m) over c,
///   y[r][c] = exp(x[r][c] - m) / s        or        y[r][c] = x[r][c] - m - log(s)
/// Backward, from y: dx = y * (dy - sum of y * dy)        or        dx = dy - exp(y) * (sum of dy)
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct Softmax {
  View<const T> x;  // [rows, columns]
  View<T> y;        // likewise
  bool log;         // the logarithm
};

template <class T> struct SoftmaxGradient {
  View<const T> y, dy;  // [rows, columns]
  Sink<T> dx;           // likewise
  bool log;
};

template <Isa isa, class T> void softmax_forward(Cpu<isa>, const Softmax<T>&);
template <class T> void softmax_forward(Cuda, const Softmax<T>&);

template <Isa isa, class T> void softmax_backward(Cpu<isa>, const SoftmaxGradient<T>&);
template <class T> void softmax_backward(Cuda, const SoftmaxGradient<T>&);

}  // namespace libtrain::kernels
