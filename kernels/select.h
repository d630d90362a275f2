/// One of two arrays by a third, dimensions of which may be repeated (kernels/broadcast.h): y = mask ? a : b, or y += that, for every
/// element of y. Gradients are selections too, of what arrives and of 0.
#pragma once
#include "kernels/broadcast.h"

namespace libtrain::kernels {

template <class T> struct Select {
  Operand<int32_t> mask;         // 0 is false, everything else true
  std::array<Operand<T>, 2> in;  // a and b; one without data is `number`
  double number;
  std::array<int64_t, 4> sizes;  // of y, outermost first; unused ones are 1
  Sink<T> y;                     // contiguous; it aliases no argument
};

template <Isa isa, class T> void select(Cpu<isa>, const Select<T>&);
template <class T> void select(Cuda, const Select<T>&);

}  // namespace libtrain::kernels
