/// Snake (Ziyin, Hartwig and Ueda, NeurIPS 2020): y = x + sin²(a x) / a, with slope 1 + sin(2 a x). What its kernels get and leave behind.
#pragma once
#include "kernels/dtype.h"

namespace own {

template <class T> struct Snake {
  libtrain::View<const T> x;  // of any shape
  libtrain::View<T> y;        // likewise
  double a;
};
template <class T> struct SnakeGradient {
  libtrain::View<const T> x, dy;
  libtrain::Sink<T> dx;
  double a;
};

// For a device: snake.cu.
template <class T> void snake_forward(libtrain::Cuda, const Snake<T>&);
template <class T> void snake_backward(libtrain::Cuda, const SnakeGradient<T>&);

}  // namespace own
