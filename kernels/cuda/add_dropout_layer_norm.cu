// Shapes    residual, branch, x, y and their gradients [rows, columns]; branch_bias, weight, bias and theirs [columns]; mean, rstd [rows].
// Mapping   As layer_norm.cu, from the same source (row_norm.cuh): the row that a group normalizes is made in its registers, and what leaves
//           them in backward is dresidual and dbranch, dbranch_bias being a third column sum. Dropout: each pack draws its own bits.
// Traffic   Forward reads residual and branch, writes x and y: 4 x size (apart from each other 3 and 2). Backward reads x, dy and dx, writes
//           dresidual and dbranch: 5 x size (apart: 4, 3, and 1 for the bias). Statistics and partial sums beside that. Bound by memory.
// Numerics  As layer_norm.cu and dropout.cu; the gradient of x is not rounded before it is dropped from.
// Source    Vaswani et al. 2017, section 5.4 (residual dropout); Ba, Kiros, Hinton, arXiv 1607.06450.
// Measured  Not yet on a device.
#include "kernels/add_dropout_layer_norm.h"

#include "kernels/cuda/dropout_bits.cuh"
#include "kernels/cuda/row_norm.cuh"

namespace libtrain::kernels {
namespace {

/// Rows of residual + dropout(branch + branch_bias), left in x.
template <class T> struct AddedRows {
  const T *residual, *branch, *branch_bias;
  DropoutMask mask;
  T* x;

  template <int width> __device__ auto at(int64_t place, int64_t row, int64_t column) const {
    auto sum = load_elements<width>(branch + place);
    if (branch_bias) sum = plus(sum, load_elements<width>(branch_bias + column));
    if (mask.state) {
      const Dropper<accum_t<T>> dropper(mask);
      dropper.drop(sum.at, dropper.place_of(mask, row), column);
    }
    sum = plus(sum, load_elements<width>(residual + place));
    store_elements(x + place, sum);
    if constexpr (width == 1)
      return T(sum.at[0]);
    else
      return pack_bits(sum);
  }
};

/// Takes dx: adds what has arrived at x from elsewhere, and hands the sum to residual and branch.
template <class T> struct AddedGradients {
  static constexpr int kSums = 1;
  const T* dx;
  Sink<T> dresidual, dbranch;
  DropoutMask mask;

  template <int width> __device__ void put(int64_t place, int64_t row, int64_t column, Elements<T, width> d,
                                           accum_t<T> (&dbranch_bias)[width]) const {
    if (dx) d = plus(d, load_elements<width>(dx + place));
    if (dresidual.data) put_elements(dresidual.data + place, d, dresidual.accumulate);
    if (mask.state) {
      const Dropper<accum_t<T>> dropper(mask);
      dropper.drop(d.at, dropper.place_of(mask, row), column);
    }
#pragma unroll
    for (int j = 0; j < width; ++j) dbranch_bias[j] += d.at[j];
    if (dbranch.data) put_elements(dbranch.data + place, d, dbranch.accumulate);
  }
};

}  // namespace

template <class T> void add_dropout_layer_norm_forward(Cuda where, const AddDropoutLayerNorm<T>& k) {
  const AddedRows<T> source{k.residual.data, k.branch.data, k.branch_bias.data, k.mask, k.x.data};
  norm_forward<true>(where, "add_dropout_layer_norm_forward", k.norm, source, k.residual.data, k.branch.data,
                     k.branch_bias.data);
}

template <class T> void add_dropout_layer_norm_backward(Cuda where, const AddDropoutLayerNorm<T>& k,
                                                        const AddDropoutLayerNormGradients<T>& g) {
  const AddedGradients<T> target{g.dx.data, g.dresidual, g.dbranch, k.mask};
  const Partials<accum_t<T>, 3> sums{g.workspace.data, where.tickets, {g.dweight, g.dbias, g.dbranch_bias}};
  norm_backward<true>(where, "add_dropout_layer_norm_backward", k.norm, g.dy.data, target, sums,
                      layer_norm_blocks(where, k.x.dims[0]), g.dx.data, g.dresidual.data, g.dbranch.data);
}

#define INSTANTIATE(T)                                                               \
  template void add_dropout_layer_norm_forward(Cuda, const AddDropoutLayerNorm<T>&); \
  template void add_dropout_layer_norm_backward(Cuda, const AddDropoutLayerNorm<T>&, \
                                                const AddDropoutLayerNormGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
