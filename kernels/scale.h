/// y = factor * x, or y += factor * x: an operation that is its own gradient, and with factor 1 how gradients are
/// passed on.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct Scale {
  View<const T> x;
  double factor;
  Sink<T> y;  // as many elements as x; may alias it
};

template <Isa isa, class T> void scale(Cpu<isa>, const Scale<T>&);
template <class T> void scale(Cuda, const Scale<T>&);

}  // namespace libtrain::kernels
