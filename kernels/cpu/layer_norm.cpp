#include "kernels/layer_norm.h"

#include <cmath>

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// dx of one row; `dx` may alias `dy`.
template <class T> void row_backward(const T* x, const T* dy, const T* weight, accum_t<T> mean, accum_t<T> rstd,
                                     int64_t columns, Sink<T> dx) {
  using A = accum_t<T>;
  A sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
  for (int64_t c = 0; c < columns; ++c) {
    const A g = A(dy[c]) * A(weight[c]);
    sum_g += g;
    sum_gn += g * (A(x[c]) - mean) * rstd;
  }
  const A mean_g = sum_g / A(columns), mean_gn = sum_gn / A(columns);
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) {
    const A n = (A(x[c]) - mean) * rstd;
    put(dx.data[c], rstd * (A(dy[c]) * A(weight[c]) - mean_g - n * mean_gn), dx.accumulate);
  }
}

/// Adds one row's share to the partial sums of dweight and dbias.
template <class T> void row_parameters(const T* x, const T* dy, accum_t<T> mean, accum_t<T> rstd, int64_t columns,
                                       accum_t<T>* dweight, accum_t<T>* dbias) {
  using A = accum_t<T>;
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) {
    dweight[c] += A(dy[c]) * (A(x[c]) - mean) * rstd;
    dbias[c] += A(dy[c]);
  }
}

/// out[c] = sum over blocks of partial[block][0][c], in order.
template <class A> void sum_blocks(const A* partial, int64_t blocks, int64_t columns, Sink<A> out) {
  if (!out) return;
  for (int64_t c = 0; c < columns; ++c) {
    A sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += partial[b * 2 * columns + c];
    put(out.data[c], sum, out.accumulate);
  }
}

}  // namespace

template <Isa isa, class T> void layer_norm_forward(Cpu<isa>, const LayerNorm<T>& k) {
  using A = accum_t<T>;
  const auto [rows, columns, d2, d3] = k.x.dims;
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row) {
    const T* x = k.x.data + row * columns;
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
    for (int64_t c = 0; c < columns; ++c) y[c] = T((A(x[c]) - mean) * rstd * A(k.weight.data[c]) + A(k.bias.data[c]));
  }
}

template <Isa isa, class T>
void layer_norm_backward(Cpu<isa> device, const LayerNorm<T>& k, View<const T> dy, const LayerNormGradients<T>& g) {
  using A = accum_t<T>;
  const auto [rows, columns, d2, d3] = k.x.dims;
  const int64_t blocks = layer_norm_blocks(device, rows);
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t block = 0; block < blocks; ++block) {
    A* dweight = g.workspace.data + block * 2 * columns;
    A* dbias = dweight + columns;
    for (int64_t c = 0; c < 2 * columns; ++c) dweight[c] = 0;
    for (int64_t row = rows * block / blocks; row < rows * (block + 1) / blocks; ++row) {
      const int64_t at = row * columns;
      row_parameters(k.x.data + at, dy.data + at, k.mean.data[row], k.rstd.data[row], columns, dweight, dbias);
      if (g.dx)
        row_backward(k.x.data + at, dy.data + at, k.weight.data, k.mean.data[row], k.rstd.data[row], columns,
                     Sink<T>{g.dx.data + at, g.dx.accumulate});
    }
  }
  sum_blocks(g.workspace.data, blocks, columns, g.dweight);
  sum_blocks(g.workspace.data + columns, blocks, columns, g.dbias);
}

#define INSTANTIATE(T)                                              \
  template void layer_norm_forward(Cpu<kIsa>, const LayerNorm<T>&); \
  template void layer_norm_backward(Cpu<kIsa>, const LayerNorm<T>&, View<const T>, const LayerNormGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
