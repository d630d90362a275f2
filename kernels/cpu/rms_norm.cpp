#include "kernels/rms_norm.h"

#include <cmath>

#include "kernels/cpu/row_blocks.h"

namespace libtrain::kernels {
namespace {

/// y and rstd of one row.
template <class T> accum_t<T> row_forward(const T* x, const T* weight, int64_t columns, accum_t<T> epsilon, T* y) {
  using A = accum_t<T>;
  A squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < columns; ++c) squares += A(x[c]) * A(x[c]);
  const A rstd = A(1) / std::sqrt(squares / A(columns) + epsilon);
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) y[c] = T(A(x[c]) * rstd * A(weight[c]));
  return rstd;
}

/// dx of one row; `dx` may alias `dy`.
template <class T>
void row_backward(const T* x, const T* dy, const T* weight, accum_t<T> rstd, int64_t columns, Sink<T> dx) {
  using A = accum_t<T>;
  A sum_gn = 0;
#pragma omp simd reduction(+ : sum_gn)
  for (int64_t c = 0; c < columns; ++c) sum_gn += A(dy[c]) * A(weight[c]) * A(x[c]) * rstd;
  const A mean_gn = sum_gn / A(columns);
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c)
    put(dx.data[c], rstd * (A(dy[c]) * A(weight[c]) - A(x[c]) * rstd * mean_gn), dx.accumulate);
}

}  // namespace

template <Isa isa, class T> void rms_norm_forward(Cpu<isa>, const RmsNorm<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row)
    k.rstd.data[row] =
        row_forward(k.x.data + row * columns, k.weight.data, columns, accum_t<T>(k.epsilon), k.y.data + row * columns);
}

template <Isa isa, class T>
void rms_norm_backward(Cpu<isa> device, const RmsNorm<T>& k, View<const T> dy, const RmsNormGradients<T>& g) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int64_t blocks = rms_norm_blocks(device, rows);
  for_row_blocks(rows, columns, blocks, 1, g.workspace.data, [&](int64_t row, A* dweight) {
    const T *x = k.x.data + row * columns, *dy_row = dy.data + row * columns;
    const A rstd = k.rstd.data[row];
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) dweight[c] += A(dy_row[c]) * A(x[c]) * rstd;
    if (g.dx)
      row_backward(x, dy_row, k.weight.data, rstd, columns, Sink<T>{g.dx.data + row * columns, g.dx.accumulate});
  });
  sum_blocks(g.workspace.data, blocks, 1, columns, g.dweight);
}

#define INSTANTIATE(T)                                          \
  template void rms_norm_forward(Cpu<kIsa>, const RmsNorm<T>&); \
  template void rms_norm_backward(Cpu<kIsa>, const RmsNorm<T>&, View<const T>, const RmsNormGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
