// Shapes    x, y, dy, dx [rows, columns]; bias, dbias [columns].
// Mapping   A thread owns the columns of a pack of 16 bytes (where rows do not divide into packs, one column), keeps their bias in registers
//           and strides over the rows. Backward: a warp walks every so many rows of a block's, with the sums of its columns in registers;
//           warps are added up in order through shared memory, blocks by the last one to finish (partials.cuh).
// Traffic   Forward reads x and writes y: 2 x size. Backward reads x and dy and writes dx: 3 x size (4 x size where it adds); partial
//           sums are at most bias_activation_blocks() rows. Bound by memory.
// Numerics  f32 (f64 for f64) throughout, rounded once; dbias sums what dx is before it is rounded, in an order that follows from the shape.
// Source    kernels/pointwise.h, kernels/dropout.h.
// Measured  docs/kernels.md.
#include "kernels/bias_activation.h"

#include "kernels/cuda/ahead.cuh"
#include "kernels/cuda/dropout_bits.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/partials.cuh"

namespace libtrain::kernels {
namespace {

/// Columns of a thread where rows divide into packs. One in f64, whose erfc needs the registers.
template <class T> constexpr int kWide = sizeof(T) < 8 ? Pack<T>::kSize : 1;

template <class T, int width, int arrays> using Ahead = PacksAhead<T, arrays, width == Pack<T>::kSize>;

/// Blocks that a multiprocessor has registers for: those of ReLU and dropout just do for six.
template <class F> constexpr int kForwardBlocks = std::is_same_v<F, Relu> ? 6 : 5;
template <class T> constexpr int kBackwardBlocks = sizeof(T) < 8 ? 4 : 2;

/// y = dropout(f(x + bias)), `width` columns a thread.
template <class F, int width, class T> __global__ void __launch_bounds__(kBlockThreads, kForwardBlocks<F>)
    forward_kernel(BiasActivation<T> k) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const auto [column, first_row, row_stride] = matrix_thread<width>();
  if (column >= columns) return;
  RowDropper<accum_t<T>> dropper(k.mask);
  const auto bias = load_elements<width>(k.bias.data + column);
  const Ahead<T, width, 1> ahead(shared, threadIdx.y * blockDim.x + threadIdx.x);
  const auto fetch = [&](int64_t at) {
    ahead.fetch(0, k.x.data + at);
    ahead.commit();
  };
  const int64_t step = row_stride * columns;
  int64_t row = first_row, at = row * columns + column;
  if (row < rows) {
    dropper.expect(row);
    fetch(at);
  }
  for (; row < rows; at += step) {
    dropper.begin();
    row += row_stride;
    if (row < rows) dropper.expect(row);
    ahead.wait();
    auto y = ahead.template take_elements<width>(0, k.x.data + at);
    if (row < rows) fetch(at + step);
#pragma unroll
    for (int j = 0; j < width; ++j) y.at[j] = F::template forward<CudaMath>(y.at[j] + bias.at[j]);
    dropper.drop(y.at, column);
    store_elements(k.y.data + at, y);
  }
}

/// dx, and the sums of its columns, `width` a lane.
template <class F, int width, class T> __global__ void __launch_bounds__(kBlockThreads, kBackwardBlocks<T>)
    backward_kernel(BiasActivation<T> k, const T* dy, Sink<T> dx, float scale, Partials<accum_t<T>, 1> sums) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const auto [column, first_row, row_stride] = column_walk<width>();
  Elements<T, width> sum{};
  if (column < columns) {
    RowDropper<accum_t<T>> dropper(k.mask);
    decltype(load_elements<width>(k.bias.data)) bias{};
    if (k.bias.data) bias = load_elements<width>(k.bias.data + column);
    const Ahead<T, width, 2> ahead(shared, threadIdx.x);
    const auto fetch = [&](int64_t at) {
      ahead.fetch(0, k.x.data + at);
      ahead.fetch(1, dy + at);
      ahead.commit();
    };
    const int64_t step = row_stride * columns;
    int64_t row = first_row, at = row * columns + column;
    if (row < rows) {
      dropper.expect(row);
      fetch(at);
    }
    for (; row < rows; at += step) {
      dropper.begin();
      row += row_stride;
      if (row < rows) dropper.expect(row);
      ahead.wait();
      auto d = ahead.template take_elements<width>(1, dy + at);
#pragma unroll
      for (int j = 0; j < width; ++j) d.at[j] *= scale;
      dropper.drop(d.at, column);
      const auto x = ahead.template take_elements<width>(0, k.x.data + at);
#pragma unroll
      for (int j = 0; j < width; ++j) {
        d.at[j] = F::template backward<CudaMath>(x.at[j] + bias.at[j], d.at[j]);
        sum.at[j] += d.at[j];
      }
      if (row < rows) fetch(at + step);
      if (dx.data) put_elements(dx.data + at, d, dx.accumulate);
    }
  }
  add_up_columns(sum, columns, sums);
}

}  // namespace

template <class F, class T> void bias_activation_forward(Cuda where, const BiasActivation<T>& k) {
  constexpr int kSize = kWide<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const bool packs = columns % kSize == 0 && aligned_16(k.x.data, k.bias.data, k.y.data);
  LaunchShape shape = matrix_shape(rows, columns, packs ? kSize : 1, kForwardBlocks<F>);
  if (packs) shape.shared_bytes = Ahead<T, kSize, 1>::kSharedBytes;
  launch(where, "bias_activation_forward", shape, packs ? forward_kernel<F, kSize, T> : forward_kernel<F, 1, T>, k);
}

template <class F, class T> void bias_activation_backward(Cuda where, const BiasActivation<T>& k, View<const T> dy,
                                                          const BiasActivationGradients<T>& g) {
  constexpr int kSize = kWide<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1], blocks = bias_activation_blocks(where, rows, columns);
  const bool packs = columns % kSize == 0 && aligned_16(k.x.data, k.bias.data, dy.data, g.dx.data);
  LaunchShape shape = column_walk_shape(columns, packs ? kSize : 1, blocks);
  if (packs) shape.shared_bytes = Ahead<T, kSize, 2>::kSharedBytes;
  launch(where, "bias_activation_backward", shape, packs ? backward_kernel<F, kSize, T> : backward_kernel<F, 1, T>, k,
         dy.data, g.dx, g.scale, Partials<accum_t<T>, 1>{g.workspace.data, where.tickets, {g.dbias}});
}

#define INSTANTIATE_FOR(F, T)                                                              \
  template void bias_activation_forward<F>(Cuda, const BiasActivation<T>&);                \
  template void bias_activation_backward<F>(Cuda, const BiasActivation<T>&, View<const T>, \
                                            const BiasActivationGradients<T>&);
#define INSTANTIATE(F) INSTANTIATE_FOR(F, float) INSTANTIATE_FOR(F, bf16) INSTANTIATE_FOR(F, double)
LIBTRAIN_POINTWISE(INSTANTIATE)

}  // namespace libtrain::kernels
