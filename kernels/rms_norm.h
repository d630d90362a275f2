/// Root mean square normalization over the last dimension (Zhang and Sennrich, NeurIPS 2019, arXiv 1910.07467).
///   y = x * rstd * weight,  rstd = 1 / sqrt(mean(x^2) + epsilon)
/// Backward, with n = x * rstd and g = dy * weight:
///   dx = rstd * (g - n * mean(g * n)),  dweight = sum over rows of dy * n
#pragma once
#include "kernels/dtype.h"
#include "kernels/row_blocks.h"

namespace libtrain::kernels {

template <class T> struct RmsNorm {
  View<const T> x;        // [rows, columns]
  View<const T> weight;   // [columns]
  View<T> y;              // [rows, columns]
  View<accum_t<T>> rstd;  // [rows]  out of forward, into backward
  double epsilon;
};

/// Row blocks whose partial column sums are added up in order.
template <Isa isa> constexpr int64_t rms_norm_blocks(Cpu<isa>, int64_t rows) { return cpu_row_blocks(rows); }
constexpr int64_t rms_norm_blocks(Cuda, int64_t rows) { return cuda_norm_blocks(rows); }

template <class T> struct RmsNormGradients {
  Sink<T> dx;                  // [rows, columns]; may alias dy
  Sink<accum_t<T>> dweight;    // [columns]
  View<accum_t<T>> workspace;  // [rms_norm_blocks(device, rows), columns]
};

template <Isa isa, class T> void rms_norm_forward(Cpu<isa>, const RmsNorm<T>&);
template <class T> void rms_norm_forward(Cuda, const RmsNorm<T>&);

template <Isa isa, class T>
void rms_norm_backward(Cpu<isa>, const RmsNorm<T>&, View<const T> dy, const RmsNormGradients<T>&);
template <class T> void rms_norm_backward(Cuda, const RmsNorm<T>&, View<const T> dy, const RmsNormGradients<T>&);

}  // namespace libtrain::kernels
