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

/// Rows of residual + dropout(branch + branch_bias), left in x.
template <class T> struct AddedRows {
  static constexpr int kArrays = 2;
  const T *residual, *branch, *branch_bias;
  DropoutMask mask;
  T* x;

  template <int group> struct Walk {
    const AddedRows& from;
    RowDropper<accum_t<T>> dropper;
    ColumnPacks<T, group> bias;

    __device__ Walk(const AddedRows& rows, ColumnPlace<T, group>& place, int thread, int columns)
        : from(rows), dropper(rows.mask), bias(place, rows.branch_bias, thread, columns) {}
    __device__ void expect(int64_t row) { dropper.expect(row); }
    __device__ void begin() { dropper.begin(); }
    __device__ const T* at(int array, int64_t place) const {
      return (array == 0 ? from.branch : from.residual) + place;
    }
    __device__ uint4 pack(const RowAhead<T, group, kArrays>& ahead, int i, int64_t place, int64_t column) const {
      auto values = unpacked<T>(ahead.pack(0, i));
      const auto residual = unpacked<T>(ahead.pack(1, i));
      if (from.branch_bias) {
        const Pack<T> added = bias[i];
#pragma unroll
        for (int j = 0; j < Pack<T>::kSize; ++j) values.at[j] += added.at[j];
      }
      return pack_bits(leave_sum(place, column, values, residual));
    }
    __device__ T element(int64_t place, int64_t column) const {
      auto value = load_elements<1>(from.branch + place);
      if (from.branch_bias) value.at[0] += accum_t<T>(from.branch_bias[column]);
      return T(leave_sum(place, column, value, load_elements<1>(from.residual + place)).at[0]);
    }

   private:
    template <int width> __device__ Elements<T, width> leave_sum(int64_t place, int64_t column,
                                                                 Elements<T, width> values,
                                                                 const Elements<T, width>& residual) const {
      dropper.drop(values.at, column);
      values = plus(values, residual);
      store_elements_whole(from.x + place, values);
      return values;
    }
  };
};

/// Takes dx: adds what has arrived at x from elsewhere, and hands the sum to residual and branch.
template <class T> struct AddedGradients {
  static constexpr int kArrays = 1, kSums = 1;
  const T* dx;
  Sink<T> dresidual, dbranch;
  DropoutMask mask;

  struct Walk {
    const AddedGradients& to;
    RowDropper<accum_t<T>> dropper;

    __device__ explicit Walk(const AddedGradients& gradients) : to(gradients), dropper(gradients.mask) {}
    __device__ void expect(int64_t row) { dropper.expect(row); }
    __device__ void begin() { dropper.begin(); }
    __device__ const T* at(int /*array*/, int64_t place) const { return to.dx ? to.dx + place : nullptr; }
    template <int width, class Read> __device__ void put(int64_t place, int64_t column, Elements<T, width> d,
                                                         accum_t<T> (&dbranch_bias)[width], const Read& read) const {
      if (to.dx) d = plus(d, read(0, to.dx + place));
      if (to.dresidual.data) put_elements(to.dresidual.data + place, d, to.dresidual.accumulate);
      dropper.drop(d.at, column);
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
