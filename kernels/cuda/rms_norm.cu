// Shapes    x, y, dy, dx [rows, columns]; weight, dweight [columns]; rstd [rows].
// Mapping   As layer_norm.cu, from the same source (row_norm.cuh).
// Traffic   Forward reads x and writes y; backward reads x and dy and writes dx: 2 x size and 3 x size, statistics and partial sums (at most
//           rms_norm_blocks() rows of them) beside that. Rows that no group can hold: 4 x and 5 x size requested, the repeats from cache,
//           and the column sums read and written for each row. Bound by memory.
// Numerics  f32 (f64 for f64). Sums in an order that follows from the shape and the number of multiprocessors.
// Source    Zhang and Sennrich, NeurIPS 2019, arXiv 1910.07467.
// Measured  docs/kernels.md.
#include "kernels/rms_norm.h"

#include "kernels/cuda/row_norm.cuh"

namespace libtrain::kernels {
namespace {

/// As a layer normalization without mean and bias.
template <class T> LayerNorm<T> uncentered(const RmsNorm<T>& k) {
  return {k.x, k.weight, {}, k.y, {}, k.rstd, k.epsilon};
}

}  // namespace

template <class T> void rms_norm_forward(Cuda where, const RmsNorm<T>& k) {
  norm_forward<false>(where, "rms_norm_forward", uncentered(k), RowsFrom<T>{k.x.data});
}

template <class T>
void rms_norm_backward(Cuda where, const RmsNorm<T>& k, View<const T> dy, const RmsNormGradients<T>& g) {
  const Partials<accum_t<T>, 1> sums{g.workspace.data, where.tickets, {g.dweight}};
  norm_backward<false>(where, "rms_norm_backward", uncentered(k), dy.data, RowsTo<T>{g.dx}, sums,
                       rms_norm_blocks(where, k.x.dims[0]), g.dx.data);
}

#define INSTANTIATE(T)                                     \
  template void rms_norm_forward(Cuda, const RmsNorm<T>&); \
  template void rms_norm_backward(Cuda, const RmsNorm<T>&, View<const T>, const RmsNormGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
