// Shapes    y [s0, s1, s2, s3]; arguments likewise, each with dimensions that it repeats (strides 0).
// Mapping   Rows of the last dimension are cut into packs of 16 bytes (the last of a row element by element; single elements where rows or
//           addresses do not divide into packs); a thread owns one and strides over the grid. Of an argument that repeats its last
//           dimension it reads one element for all.
// Traffic   Reads what is not repeated and writes y (and reads it first where it adds): 3 x size for equal shapes, 2 x size where an argument is
//           small; repeated ones come again from the cache. Bound by memory.
// Numerics  f32 (f64 for f64), rounded once; divisions to nearest.
// Measured  Not yet on a device.
#include "kernels/broadcast.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// Where the row of a thread begins in the arguments.
struct RowStart {
  int64_t in[3];
};
template <class F, class T, class Out> __device__ inline RowStart row_start(const Broadcast<T, Out>& k, int64_t row) {
  RowStart start{};
#pragma unroll
  for (int d = 2; d >= 0 && row > 0; --d) {
    const int64_t next = row / k.sizes[d], at = row - next * k.sizes[d];
#pragma unroll
    for (int j = 0; j < F::kInputs; ++j) start.in[j] += at * k.in[j].strides[d];
    row = next;
  }
  return start;
}

/// `width` elements of an argument from `column` of a row on, or its only one for all of them.
template <int width, class T>
__device__ inline Elements<T, width> load_operand(const Operand<T>& in, int64_t row, int64_t column) {
  if (in.strides[3]) return load_elements<width>(in.data + row + column);
  Elements<T, width> same;
  const accum_t<T> value(in.data[row]);
#pragma unroll
  for (int j = 0; j < width; ++j) same.at[j] = value;
  return same;
}

/// `width` elements of y, which begin at `column` of a row.
template <class F, int width, class T, class Out>
__device__ inline void apply(const Broadcast<T, Out>& k, const RowStart& start, int64_t column, Out* y) {
  const auto a = load_operand<width>(k.in[0], start.in[0], column);
  const auto b = load_operand<width>(k.in[1], start.in[1], column);
  Elements<T, width> dy{};
  if constexpr (F::kInputs > 2) dy = load_operand<width>(k.in[2], start.in[2], column);
#pragma unroll
  for (int j = 0; j < width; ++j) dy.at[j] = F::apply(a.at[j], b.at[j], dy.at[j]);
  put_elements(y, elements_as<Out>(dy), k.y.accumulate);
}

/// y (+)= f(arguments), `width` elements a thread; a row has `across` such parts.
template <class F, int width, class T, class Out> __global__ void __launch_bounds__(kBlockThreads)
    broadcast_kernel(Broadcast<T, Out> k, int64_t parts, int64_t across) {
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < parts; i += stride) {
    const int64_t row = i < across ? 0 : i / across, column = (i - row * across) * width;
    const RowStart start = row_start<F>(k, row);
    Out* y = k.y.data + row * k.sizes[3] + column;
    if (column + width <= k.sizes[3])
      apply<F, width>(k, start, column, y);
    else
      for (int64_t c = column; c < k.sizes[3]; ++c, ++y) apply<F, 1>(k, start, c, y);
  }
}

/// Whether rows begin at packs in y and in all arguments whose elements follow each other.
template <class T, class Out> bool rows_of_packs(const Broadcast<T, Out>& k, int64_t rows) {
  constexpr int kSize = Pack<T>::kSize;
  bool fit = aligned_16(k.y.data) && (rows == 1 || k.sizes[3] % kSize == 0);
  for (const Operand<T>& in : k.in) {
    if (in.strides[3] == 0) continue;
    fit &= aligned_16(in.data);
    for (int d = 0; d < 3; ++d) fit &= k.sizes[d] == 1 || in.strides[d] % kSize == 0;
  }
  return fit;
}

}  // namespace

template <class F, class T, class Out> void broadcast(Cuda where, const Broadcast<T, Out>& k) {
  constexpr int kSize = Pack<T>::kSize;
  const int64_t rows = k.sizes[0] * k.sizes[1] * k.sizes[2];
  const bool wide = rows_of_packs(k, rows);
  const int64_t across = wide ? (k.sizes[3] + kSize - 1) / kSize : k.sizes[3], parts = rows * across;
  const LaunchShape shape{persistent_blocks(parts, kBlockThreads, 8), kBlockThreads};
  launch(where, "broadcast", shape, wide ? broadcast_kernel<F, kSize, T, Out> : broadcast_kernel<F, 1, T, Out>, k,
         parts, across);
}

#define INSTANTIATE_FOR(F, T, Out) template void broadcast<F>(Cuda, const Broadcast<T, Out>&);
#define INSTANTIATE(F)             \
  INSTANTIATE_FOR(F, float, float) \
  INSTANTIATE_FOR(F, double, double) INSTANTIATE_FOR(F, bf16, bf16) INSTANTIATE_FOR(F, bf16, float)
LIBTRAIN_BROADCAST(INSTANTIATE)

}  // namespace libtrain::kernels
