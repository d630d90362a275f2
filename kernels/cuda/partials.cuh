/// Sums over rows. First stage: a block is 32 lanes wide, its warps walk every so many rows with the sums of their lanes' columns in
/// registers, and are added up in order into a bounded workspace. Second stage: the blocks' sums are added up in order.
#pragma once
#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {

// ---- First stage --------------------------------------------------------------------------------------------------------

/// Blocks that hold all columns, `width` a lane, in `row_blocks` rows of the grid.
inline LaunchShape column_walk_shape(int64_t columns, int width, int64_t row_blocks) {
  return {dim3(blocks_for(columns, kWarp * width), unsigned(row_blocks)), kBlockThreads};
}

/// The columns of a lane, and the rows that its warp walks.
template <int width> __device__ inline MatrixThread column_walk() {
  constexpr int kWarps = kBlockThreads / kWarp;
  return {(blockIdx.x * int64_t(kWarp) + threadIdx.x % kWarp) * width,
          blockIdx.y * int64_t(kWarps) + threadIdx.x / kWarp, int64_t(gridDim.y) * kWarps};
}

/// Writes the sums of the block's warps, added up in order, to partial [gridDim.y, columns]. The whole block calls it, once.
template <class T, int width>
__device__ inline void write_column_sums(const Elements<T, width>& sum, int64_t columns, accum_t<T>* partial) {
  constexpr int kWarps = kBlockThreads / kWarp;
  // Lane after lane, so that a warp writes to all banks; padded, so that it meets all when it reads column after column.
  constexpr int kPadding = width == 1 ? 0 : kBanks<accum_t<T>> / width;
  __shared__ accum_t<T> of_warp[kWarps][width][kWarp + kPadding];
#pragma unroll
  for (int j = 0; j < width; ++j) of_warp[threadIdx.x / kWarp][j][threadIdx.x % kWarp] = sum.at[j];
  __syncthreads();
  const int i = threadIdx.x;
  static_assert(kWarp * width <= kBlockThreads);
  const int64_t column = int64_t(blockIdx.x) * kWarp * width + i;
  if (i >= kWarp * width || column >= columns) return;
  accum_t<T> total = of_warp[0][i % width][i / width];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) total += of_warp[warp][i % width][i / width];
  partial[blockIdx.y * columns + column] = total;
}

// ---- Second stage -------------------------------------------------------------------------------------------------------

/// out[i][c] = sum over `blocks` of partial[block][i][c], for those outs that are wanted.
template <class A, int outs> struct Partials {
  const A* partial;  // [blocks, outs, columns]
  int64_t blocks, columns;
  Sink<A> out[outs];
};

namespace {

constexpr int kPartialWarps = 8;

/// A block owns 32 columns: warp w adds up partials w, w + 8, …, then the first warp the warps' sums.
template <class A, int outs> __global__ void __launch_bounds__(kPartialWarps* kWarp)
    sum_partials_kernel(Partials<A, outs> p) {
  __shared__ A of_warp[kPartialWarps][outs][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t column = blockIdx.x * int64_t(kWarp) + lane;
  A sum[outs] = {};
  for (int64_t block = column < p.columns ? warp : p.blocks; block < p.blocks; block += kPartialWarps)
#pragma unroll
    for (int i = 0; i < outs; ++i) sum[i] += p.partial[(block * outs + i) * p.columns + column];
#pragma unroll
  for (int i = 0; i < outs; ++i) of_warp[warp][i][lane] = sum[i];
  __syncthreads();
  if (warp != 0 || column >= p.columns) return;
#pragma unroll
  for (int i = 0; i < outs; ++i) {
#pragma unroll
    for (int w = 1; w < kPartialWarps; ++w) sum[i] += of_warp[w][i][lane];
    if (p.out[i].data) put(p.out[i].data[column], sum[i], p.out[i].accumulate);
  }
}

}  // namespace

template <class A, int outs> void sum_partials(Cuda where, const char* name, const Partials<A, outs>& p) {
  bool wanted = false;
  for (const Sink<A>& out : p.out) wanted = wanted || out;
  if (wanted)
    launch(where, name, {blocks_for(p.columns, kWarp), kPartialWarps * kWarp}, sum_partials_kernel<A, outs>, p);
}

}  // namespace libtrain::kernels
