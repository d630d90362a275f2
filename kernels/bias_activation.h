/// A bias, a function of one argument and dropout in one pass: what stands between the two products of a feed-forward layer.
///   y = dropout(f(x + bias)),  the bias [columns] added to every row, f a formula of kernels/pointwise.h, dropout as in kernels/dropout.h
/// Backward, with dz = dropout's gradient of dy:
///   dx = dz * f'(x + bias),  dbias = sum over rows of dx, before dx is rounded
/// ReLU's y tells as much as x: where it is 0, x + bias was not positive or was dropped. With y for x, no bias, no mask, and dy scaled as what
/// was kept had been, backward gives the same (but where y is so small that it was rounded to 0).
#pragma once
#include "kernels/dropout.h"
#include "kernels/pointwise.h"
#include "kernels/row_blocks.h"

namespace libtrain::kernels {

template <class T> struct BiasActivation {
  View<const T> x;     // [rows, columns]
  View<const T> bias;  // [columns]; in backward, none is 0
  View<T> y;           // [rows, columns]; may alias x
  DropoutMask mask;    // without a state nothing is dropped
};

/// Row blocks whose partial column sums are added up in order.
template <Isa isa> constexpr int64_t bias_activation_blocks(Cpu<isa>, int64_t rows, int64_t /*columns*/) {
  return cpu_row_blocks(rows);
}
/// Enough to fill a device where columns are few, and never more than 1024 for all columns together.
constexpr int64_t bias_activation_blocks(Cuda, int64_t rows, int64_t columns) {
  const int64_t wanted = (rows + 31) / 32, across = (columns + 127) / 128;
  const int64_t most = across == 0 || across >= 1024 ? 1 : 1024 / across;
  return wanted < 1 ? 1 : wanted < most ? wanted : most;
}

template <class T> struct BiasActivationGradients {
  Sink<T> dx;                  // [rows, columns]; may alias x
  Sink<accum_t<T>> dbias;      // [columns]
  View<accum_t<T>> workspace;  // [bias_activation_blocks(device, rows, columns), columns]
  float scale = 1;             // of dy
};

template <class F, Isa isa, class T> void bias_activation_forward(Cpu<isa>, const BiasActivation<T>&);
template <class F, class T> void bias_activation_forward(Cuda, const BiasActivation<T>&);

template <class F, Isa isa, class T>
void bias_activation_backward(Cpu<isa>, const BiasActivation<T>&, View<const T> dy, const BiasActivationGradients<T>&);
template <class F, class T>
void bias_activation_backward(Cuda, const BiasActivation<T>&, View<const T> dy, const BiasActivationGradients<T>&);

}  // namespace libtrain::kernels
