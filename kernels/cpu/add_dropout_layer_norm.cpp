#include "kernels/add_dropout_layer_norm.h"

#include "kernels/cpu/dropout_bits.h"
#include "kernels/cpu/layer_norm_row.h"

namespace libtrain::kernels {
namespace {

/// x = residual + dropout(branch + branch_bias) for one row.
template <class T> void add_row(const AddDropoutLayerNorm<T>& k, const Dropper<accum_t<T>>& dropper, int64_t row) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1], at = row * columns;
  const T *residual = k.residual.data + at, *branch = k.branch.data + at, *bias = k.branch_bias.data;
  T* x = k.x.data + at;
  dropper.for_chunks_of(row, columns, [&](int64_t first, int64_t count, const uint16_t* bits) {
    if (bias)
#pragma omp simd
      for (int64_t i = first; i < first + count; ++i)
        put(x[i], A(residual[i]) + dropper.drop(A(branch[i]) + A(bias[i]), bits[i - first]), false);
    else
#pragma omp simd
      for (int64_t i = first; i < first + count; ++i)
        put(x[i], A(residual[i]) + dropper.drop(A(branch[i]), bits[i - first]), false);
  });
}

/// The part of a row that one chunk of random bits serves.
struct Span {
  int64_t at, count;  // from the beginning of the matrix
};

template <class T> void add_span(View<const T> from, Span span, accum_t<T>* d) {
  if (!from) return;
  const T* values = from.data + span.at;
#pragma omp simd
  for (int64_t i = 0; i < span.count; ++i) d[i] += accum_t<T>(values[i]);
}

template <class T> void put_span(const accum_t<T>* d, Span span, Sink<T> to) {
  if (!to) return;
  T* values = to.data + span.at;
#pragma omp simd
  for (int64_t i = 0; i < span.count; ++i) put(values[i], d[i], to.accumulate);
}

/// dresidual and dbranch of one row, and its share of dbranch_bias.
template <class T> void row_backward(const AddDropoutLayerNorm<T>& k, const Dropper<accum_t<T>>& dropper,
                                     const AddDropoutLayerNormGradients<T>& g, int64_t row, accum_t<T>* dbranch_bias) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1];
  const RowGradient<T> gradient(k.norm, g.dy.data, row);
  dropper.for_chunks_of(row, columns, [&](int64_t first, int64_t count, const uint16_t* bits) {
    const Span span{row * columns + first, count};
    A d[kDropoutChunk];
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) d[i] = gradient.dx(first + i);
    add_span(g.dx, span, d);
    put_span(d, span, g.dresidual);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      d[i] = dropper.drop(d[i], bits[i]);
      dbranch_bias[first + i] += d[i];
    }
    put_span(d, span, g.dbranch);
  });
}

}  // namespace

template <Isa isa, class T> void add_dropout_layer_norm_forward(Cpu<isa>, const AddDropoutLayerNorm<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const Dropper<accum_t<T>> dropper{k.mask};
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row) {
    add_row(k, dropper, row);
    normalize_row(k.norm, row);
  }
}

template <Isa isa, class T> void add_dropout_layer_norm_backward(Cpu<isa> device, const AddDropoutLayerNorm<T>& k,
                                                                 const AddDropoutLayerNormGradients<T>& g) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const Dropper<A> dropper{k.mask};
  const int64_t blocks = layer_norm_blocks(device, rows);
  for_row_blocks(rows, columns, blocks, 3, g.workspace.data, [&](int64_t row, A* sums) {
    row_parameters(k.norm, g.dy.data, row, sums, sums + columns);
    row_backward(k, dropper, g, row, sums + 2 * columns);
  });
  sum_blocks(g.workspace.data, blocks, 3, columns, g.dweight);
  sum_blocks(g.workspace.data + columns, blocks, 3, columns, g.dbias);
  sum_blocks(g.workspace.data + 2 * columns, blocks, 3, columns, g.dbranch_bias);
}

#define INSTANTIATE(T)                                                                    \
  template void add_dropout_layer_norm_forward(Cpu<kIsa>, const AddDropoutLayerNorm<T>&); \
  template void add_dropout_layer_norm_backward(Cpu<kIsa>, const AddDropoutLayerNorm<T>&, \
                                                const AddDropoutLayerNormGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
