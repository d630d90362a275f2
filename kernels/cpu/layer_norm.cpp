#include "kernels/cpu/layer_norm_row.h"

namespace libtrain::kernels {
namespace {

/// dx of one row; `dx` may alias `dy`.
template <class T> void row_backward(const RowGradient<T>& gradient, int64_t columns, Sink<T> dx) {
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) put(dx.data[c], gradient.dx(c), dx.accumulate);
}

}  // namespace

template <Isa isa, class T> void layer_norm_forward(Cpu<isa>, const LayerNorm<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row) normalize_row(k, row);
}

template <Isa isa, class T>
void layer_norm_backward(Cpu<isa> device, const LayerNorm<T>& k, View<const T> dy, const LayerNormGradients<T>& g) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int64_t blocks = layer_norm_blocks(device, rows);
  for_row_blocks(rows, columns, blocks, 2, g.workspace.data, [&](int64_t row, accum_t<T>* sums) {
    row_parameters(k, dy.data, row, sums, sums + columns);
    if (g.dx)
      row_backward(RowGradient<T>(k, dy.data, row), columns, Sink<T>{g.dx.data + row * columns, g.dx.accumulate});
  });
  sum_blocks(g.workspace.data, blocks, 2, columns, g.dweight);
  sum_blocks(g.workspace.data + columns, blocks, 2, columns, g.dbias);
}

#define INSTANTIATE(T)                                              \
  template void layer_norm_forward(Cpu<kIsa>, const LayerNorm<T>&); \
  template void layer_norm_backward(Cpu<kIsa>, const LayerNorm<T>&, View<const T>, const LayerNormGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
