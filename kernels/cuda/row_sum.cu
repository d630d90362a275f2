// Shapes    x, dx [rows, columns]; y, dy [rows]; workspace [rows, pieces].
// Mapping   forward: a warp owns a row of up to 1,024 columns, a block a longer one; where rows are few and longer than 4,096, up to 256
//           blocks own a piece of one each, and a second launch of one warp a row adds the pieces up. Threads read packs of 16 bytes (or
//           elements), four under way. backward: a thread owns a pack of dx (or an element) and strides over the grid.
// Traffic   forward reads x, backward writes dx (and reads it where it adds); bound by memory.
// Numerics  f32 (f64 for f64), in an order that depends on the shape and on whether packs fit: each thread's elements, then a tree.
// Measured  docs/kernels.md.
#include "kernels/row_sum.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// The sum of `count` elements, over a group of `group` threads: a warp or the block.
template <int width, int group, class T> __device__ inline accum_t<T> sum_of(const T* x, int64_t count) {
  accum_t<T> sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x % group * width; i < count; i += group * width) {
    const auto values = load_elements<width>(x + i);
#pragma unroll
    for (int j = 0; j < width; ++j) sum += values.at[j];
  }
  return group_reduce<Sum, group>(sum);
}

/// out[i] = scale * sum of piece i: rows are cut into `pieces` of `length` elements, the last one shorter. A group owns a piece.
template <int width, int group, class T> __global__ void __launch_bounds__(kBlockThreads)
    sum_pieces(View<const T> x, int64_t pieces, int64_t length, accum_t<T> scale, accum_t<T>* out) {
  constexpr int kGroups = kBlockThreads / group;
  const int64_t rows = x.dims[0], columns = x.dims[1];
  for (int64_t i = blockIdx.x * int64_t(kGroups) + threadIdx.x / group; i < rows * pieces;
       i += int64_t(gridDim.x) * kGroups) {
    const int64_t row = i / pieces, begin = (i - row * pieces) * length, left = columns - begin;
    const accum_t<T> sum = sum_of<width, group>(x.data + row * columns + begin, left < length ? left : length);
    if (threadIdx.x % group == 0) out[i] = sum * scale;
  }
}

/// dx, `width` neighbours of a row a thread; a row has `parts` of them.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    spread_rows(RowSumGradient<T> k, int64_t count, int64_t parts) {
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < count; i += stride) {
    const accum_t<T> value = k.dy.data[i / parts] * accum_t<T>(k.scale);
    Elements<T, width> values;
#pragma unroll
    for (int j = 0; j < width; ++j) values.at[j] = value;
    put_elements(k.dx.data + i * width, values, k.dx.accumulate);
  }
}

template <class T>
void launch_pieces(Cuda where, View<const T> x, int64_t pieces, int64_t length, accum_t<T> scale, accum_t<T>* out) {
  constexpr int kWide = Pack<T>::kSize;
  const bool wide = packs_fit(x.data, x.dims[1]) && length % kWide == 0, by_warp = length <= 1024;
  const auto kernel = by_warp ? wide ? sum_pieces<kWide, kWarp, T> : sum_pieces<1, kWarp, T>
                      : wide ? sum_pieces<kWide, kBlockThreads, T>
                              : sum_pieces<1, kBlockThreads, T>;
  const unsigned blocks = persistent_blocks(x.dims[0] * pieces, by_warp ? kBlockThreads / kWarp : 1, 8);
  launch(where, "row_sum_forward", {blocks, kBlockThreads}, kernel, x, pieces, length, scale, out);
}

}  // namespace

template <class T> void row_sum_forward(Cuda where, const RowSum<T>& k) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  if (rows == 0) return;
  const int64_t pieces = row_sum_workspace(where, rows, columns) / rows;
  if (pieces == 0) return launch_pieces<T>(where, k.x, 1, columns, A(k.scale), k.y.data);
  constexpr int64_t kUnit = kRowSumPiece / 4;
  const int64_t length = (columns + pieces * kUnit - 1) / (pieces * kUnit) * kUnit;
  launch_pieces<T>(where, k.x, pieces, length, A(1), k.workspace.data);
  launch_pieces<A>(where, {k.workspace.data, {rows, pieces, 1, 1}}, 1, pieces, A(k.scale), k.y.data);
}

template <class T> void row_sum_backward(Cuda where, const RowSumGradient<T>& k) {
  constexpr int kWide = Pack<T>::kSize;
  const bool wide = packs_fit(k.dx.data, k.columns);
  const int64_t parts = wide ? k.columns / kWide : k.columns, count = k.dy.size() * parts;
  const LaunchShape shape{persistent_blocks(count, kBlockThreads, 8), kBlockThreads};
  launch(where, "row_sum_backward", shape, wide ? spread_rows<kWide, T> : spread_rows<1, T>, k, count, parts);
}

#define INSTANTIATE(T)                                   \
  template void row_sum_forward(Cuda, const RowSum<T>&); \
  template void row_sum_backward(Cuda, const RowSumGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
