/// Layer normalization over the last dimension (Ba, Kiros, Hinton, arXiv 1607.06450).
///   y = (x - mean) * rstd * weight + bias,  rstd = 1 / sqrt(variance + epsilon),  variance divided by the number of columns
/// Backward, with n = (x - mean) * rstd and g = dy * weight:
///   dx = rstd * (g - mean(g) - n * mean(g * n)),  dweight = sum over rows of dy * n,  dbias = sum over rows of dy
#pragma once
#include "kernels/dtype.h"
#include "kernels/row_blocks.h"

namespace libtrain::kernels {

template <class T> struct LayerNorm {
  View<const T> x;        // [rows, columns]
  View<const T> weight;   // [columns]
  View<const T> bias;     // [columns]
  View<T> y;              // [rows, columns]
  View<accum_t<T>> mean;  // [rows]  out of forward, into backward
  View<accum_t<T>> rstd;  // [rows]  likewise
  double epsilon;
};

/// Row blocks whose partial column sums are added up in order.
template <Isa isa> constexpr int64_t layer_norm_blocks(Cpu<isa>, int64_t rows) { return cpu_row_blocks(rows); }
constexpr int64_t layer_norm_blocks(Cuda, int64_t rows) { return cuda_norm_blocks(rows); }

template <class T> struct LayerNormGradients {
  Sink<T> dx;                  // [rows, columns]; may alias dy
  Sink<accum_t<T>> dweight;    // [columns]
  Sink<accum_t<T>> dbias;      // [columns]
  View<accum_t<T>> workspace;  // [layer_norm_blocks(device, rows), 2, columns]
};

template <Isa isa, class T> void layer_norm_forward(Cpu<isa>, const LayerNorm<T>&);
template <class T> void layer_norm_forward(Cuda, const LayerNorm<T>&);

template <Isa isa, class T>
void layer_norm_backward(Cpu<isa>, const LayerNorm<T>&, View<const T> dy, const LayerNormGradients<T>&);
template <class T> void layer_norm_backward(Cuda, const LayerNorm<T>&, View<const T> dy, const LayerNormGradients<T>&);

}  // namespace libtrain::kernels
