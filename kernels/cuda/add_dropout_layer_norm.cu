// Shapes    residual, branch, x, y and their gradients [rows, columns]; branch_bias, weight, bias and theirs [columns]; mean, rstd [rows].
// Mapping   As layer_norm.cu, from the same source (row_norm.cuh): the row that a group normalizes is made in its registers, and what leaves
//           them in backward is dresidual and dbranch, dbranch_bias being a third column sum. Dropout: each pack draws its own bits.
// Traffic   Forward reads residual and branch, writes x and y: 4 x size (apart from each other 3 and 2). Backward reads x, dy and dx, writes
//           dresidual and dbranch: 5 x size (apart: 4, 3, and 1 for the bias). Statistics and partial sums beside that. Bound by memory.
// Numerics  As layer_norm.cu and dropout.cu; the gradient of x is not rounded before it is dropped from.
// Source    Vaswani et al. 2017, section 5.4 (residual dropout); Ba, Kiros, Hinton, arXiv 1607.06450.
// Measured  docs/kernels.md.
#include "kernels/add_dropout_layer_norm.h"

#include "kernels/cuda/dropout_bits.cuh"
#include "kernels/cuda/row_norm.cuh"

namespace libtrain::kernels {
namespace {

/// Dropout as a thread applies it row by row.
template <class T> struct RowDropper {
  const DropoutMask& mask;
  Dropper<accum_t<T>> dropper;
  DropoutRow row{};

  __device__ explicit RowDropper(const DropoutMask& m) : mask(m), dropper(m) {}
  __device__ void begin(int64_t number) {
    if (mask.state) row = dropper.place_of(mask, number);
  }
  template <int width> __device__ void drop(Elements<T, width>& values, int64_t column) const {
    if (mask.state) dropper.drop(values.at, row, column);
  }
};

/// Rows of residual + dropout(branch + branch_bias), left in x. A thread keeps the bias of its columns.
template <class T> struct AddedRows {
  const T *residual, *branch, *branch_bias;
  DropoutMask mask;
  T* x;

  template <int group> struct Walk {
    const AddedRows& from;
    RowDropper<T> dropper;
    Part<T, group> bias;

    __device__ Walk(const AddedRows& rows, int thread, int columns) : from(rows), dropper(rows.mask) {
      if (group != kAnyRow && from.branch_bias) bias.load(from.branch_bias, thread, columns);
    }
    __device__ void begin(int64_t row) { dropper.begin(row); }
    __device__ uint4 pack(int i, int64_t place, int64_t column) const {
      const Pack<T> held = bias[i];
      Elements<T, Pack<T>::kSize> added;
#pragma unroll
      for (int j = 0; j < Pack<T>::kSize; ++j) added.at[j] = held.at[j];
      return pack_bits(sum(place, column, added));
    }
    __device__ T element(int64_t place, int64_t column) const {
      const Elements<T, 1> added{{from.branch_bias ? accum_t<T>(from.branch_bias[column]) : accum_t<T>(0)}};
      return T(sum(place, column, added).at[0]);
    }

   private:
    template <int width>
    __device__ Elements<T, width> sum(int64_t place, int64_t column, const Elements<T, width>& added) const {
      auto values = load_elements<width>(from.branch + place);
      if (from.branch_bias) values = plus(values, added);
      dropper.drop(values, column);
      values = plus(values, load_elements<width>(from.residual + place));
      store_elements(from.x + place, values);
      return values;
    }
  };
};

/// Takes dx: adds what has arrived at x from elsewhere, and hands the sum to residual and branch.
template <class T> struct AddedGradients {
  static constexpr int kSums = 1;
  const T* dx;
  Sink<T> dresidual, dbranch;
  DropoutMask mask;

  struct Walk {
    const AddedGradients& to;
    RowDropper<T> dropper;

    __device__ explicit Walk(const AddedGradients& gradients) : to(gradients), dropper(gradients.mask) {}
    __device__ void begin(int64_t row) { dropper.begin(row); }
    template <int width>
    __device__ void put(int64_t place, int64_t column, Elements<T, width> d, accum_t<T> (&dbranch_bias)[width]) const {
      if (to.dx) d = plus(d, load_elements<width>(to.dx + place));
      if (to.dresidual.data) put_elements(to.dresidual.data + place, d, to.dresidual.accumulate);
      dropper.drop(d, column);
#pragma unroll
      for (int j = 0; j < width; ++j) dbranch_bias[j] += d.at[j];
      if (to.dbranch.data) put_elements(to.dbranch.data + place, d, to.dbranch.accumulate);
    }
  };
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
