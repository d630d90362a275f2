/// Dropout (Srivastava et al., JMLR 2014), inverted: an element is kept with probability 1 - p and then divided by it.
///   y = kept ? x * dropout_scale(p) : 0, plus the residual if there is one
#pragma once
#include "kernels/dtype.h"
#include "kernels/philox.h"

namespace libtrain::kernels {

/// Which elements of a matrix are kept. It follows from kernels/philox.h: from the seed and step in `state`, from
/// `stream`, and from the row's (sequence, position). No mask is stored: backward draws the same bits again, so
/// `state` must not change in between. p is rounded to a multiple of 1/65536.
struct DropoutMask {
  View<const int32_t> sequences{};     // [rows]; without it all rows are of sequence 0
  View<const int32_t> positions{};     // [rows]; without it row r is at position r
  const RandomState* state = nullptr;  // on the device; in fused operations, none: nothing is dropped
  uint32_t stream = 0;
  float p = 0;  // in [0, 1)
};

template <class T> struct Dropout {
  View<const T> x;         // [rows, columns]
  View<const T> residual;  // [rows, columns] or not given
  View<T> y;               // [rows, columns]
  DropoutMask mask;
};

template <class T> struct DropoutGradients {
  Sink<T> dx;         // [rows, columns]: kept ? dy * dropout_scale(p) : 0; may alias x
  Sink<T> dresidual;  // [rows, columns]: dy
};

template <Isa isa, class T> void dropout_forward(Cpu<isa>, const Dropout<T>&);
template <class T> void dropout_forward(Cuda, const Dropout<T>&);

template <Isa isa, class T>
void dropout_backward(Cpu<isa>, const Dropout<T>&, View<const T> dy, const DropoutGradients<T>&);
template <class T> void dropout_backward(Cuda, const Dropout<T>&, View<const T> dy, const DropoutGradients<T>&);

}  // namespace libtrain::kernels
