/// Layer normalization of single rows, shared by the kernels that contain one.
#pragma once
#include <cmath>

#include "kernels/cpu/row_blocks.h"
#include "kernels/layer_norm.h"

namespace libtrain::kernels {
namespace {

/// y, mean and rstd of row `row`.
template <class T> void normalize_row(const LayerNorm<T>& k, int64_t row) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1];
  const T *x = k.x.data + row * columns, *weight = k.weight.data, *bias = k.bias.data;
  A sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < columns; ++c) sum += A(x[c]);
  const A mean = sum / A(columns);
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < columns; ++c) squares += (A(x[c]) - mean) * (A(x[c]) - mean);
  const A rstd = A(1) / std::sqrt(squares / A(columns) + A(k.epsilon));
  k.mean.data[row] = mean;
  k.rstd.data[row] = rstd;
  T* y = k.y.data + row * columns;
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) y[c] = T((A(x[c]) - mean) * rstd * A(weight[c]) + A(bias[c]));
}

/// What backward needs to know of a row before it can give any dx.
template <class T> struct RowGradient {
  using A = accum_t<T>;
  const T *x, *dy, *weight;
  A mean, rstd, mean_g, mean_gn;

  RowGradient(const LayerNorm<T>& k, const T* all_dy, int64_t row)
      : x(k.x.data + row * k.x.dims[1]),
        dy(all_dy + row * k.x.dims[1]),
        weight(k.weight.data),
        mean(k.mean.data[row]),
        rstd(k.rstd.data[row]) {
    const int64_t columns = k.x.dims[1];
    A sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
    for (int64_t c = 0; c < columns; ++c) {
      const A g = A(dy[c]) * A(weight[c]);
      sum_g += g;
      sum_gn += g * (A(x[c]) - mean) * rstd;
    }
    mean_g = sum_g / A(columns);
    mean_gn = sum_gn / A(columns);
  }

  LIBTRAIN_INLINE A dx(int64_t c) const {
    const A n = (A(x[c]) - mean) * rstd;
    return rstd * (A(dy[c]) * A(weight[c]) - mean_g - n * mean_gn);
  }
};

/// Adds one row's share to the partial sums of dweight and dbias.
template <class T>
void row_parameters(const LayerNorm<T>& k, const T* all_dy, int64_t row, accum_t<T>* dweight, accum_t<T>* dbias) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1];
  const T *x = k.x.data + row * columns, *dy = all_dy + row * columns;
  const A mean = k.mean.data[row], rstd = k.rstd.data[row];
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) {
    dweight[c] += A(dy[c]) * (A(x[c]) - mean) * rstd;
    dbias[c] += A(dy[c]);
  }
}

}  // namespace
}  // namespace libtrain::kernels
