// Shapes    x, y, dy, dx [rows, columns]; weight, bias, dweight, dbias [columns]; mean, rstd [rows].
// Mapping   Rows of whole packs, by their length: up to 512 columns (256 in f64) a warp, up to twice as many two warps, up to 4,096 (2,048) a
//           block of 256 threads. Each holds a row in registers, backward's column sums too, and walks every so many rows, of which the next
//           is on its way to shared memory; there a block keeps weight and bias as well. Other rows: a block, which reads them again; in
//           backward it walks rows and keeps its column sums in the workspace.
// Traffic   Forward reads x and writes y; backward reads x and dy and writes dx: 2 x size and 3 x size, statistics and partial sums (at most
//           layer_norm_blocks() rows of them) beside that. Other rows: 4 x and 5 x size requested, the repeats from cache, and
//           the column sums read and written for each row. Bound by memory.
// Numerics  f32 (f64 for f64). Variance in two passes: from the mean, not from the sum of squares. Sums in an order that follows from
//           the shape and the number of multiprocessors.
// Source    Ba, Kiros, Hinton, arXiv 1607.06450.
// Measured  docs/kernels.md.
#include "kernels/layer_norm.h"

#include "kernels/cuda/row_norm.cuh"

namespace libtrain::kernels {

template <class T> void layer_norm_forward(Cuda where, const LayerNorm<T>& k) {
  norm_forward<true>(where, "layer_norm_forward", k, RowsFrom<T>{k.x.data});
}

template <class T>
void layer_norm_backward(Cuda where, const LayerNorm<T>& k, View<const T> dy, const LayerNormGradients<T>& g) {
  const Partials<accum_t<T>, 2> sums{g.workspace.data, where.tickets, {g.dweight, g.dbias}};
  norm_backward<true>(where, "layer_norm_backward", k, dy.data, RowsTo<T>{g.dx}, sums,
                      layer_norm_blocks(where, k.x.dims[0]), g.dx.data);
}

#define INSTANTIATE(T)                                         \
  template void layer_norm_forward(Cuda, const LayerNorm<T>&); \
  template void layer_norm_backward(Cuda, const LayerNorm<T>&, View<const T>, const LayerNormGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
