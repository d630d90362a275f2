/// The second stage of sums over rows: blocks leave partial sums of the columns in a bounded workspace, this adds them up in order.
#pragma once
#include "kernels/cuda/common.cuh"

namespace libtrain::kernels {

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
