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

/// A block owns 32 columns of one output: warp w adds up partials w, w + 8, …, then the first warp the warps' sums.
template <class A, int outs> __global__ void __launch_bounds__(kPartialWarps* kWarp)
    sum_partials_kernel(Partials<A, outs> p) {
  __shared__ A of_warp[kPartialWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t column = blockIdx.x * int64_t(kWarp) + lane;
  Sink<A> out = p.out[0];
#pragma unroll
  for (int i = 1; i < outs; ++i)
    if (blockIdx.y == i) out = p.out[i];
  A sum = 0;
  if (out.data && column < p.columns)
    for (int64_t block = warp; block < p.blocks; block += kPartialWarps)
      sum += p.partial[(block * outs + blockIdx.y) * p.columns + column];
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || !out.data || column >= p.columns) return;
#pragma unroll
  for (int w = 1; w < kPartialWarps; ++w) sum += of_warp[w][lane];
  put(out.data[column], sum, out.accumulate);
}

}  // namespace

template <class A, int outs> void sum_partials(Cuda where, const char* name, const Partials<A, outs>& p) {
  bool wanted = false;
  for (const Sink<A>& out : p.out) wanted = wanted || out;
  if (wanted)
    launch(where, name, {dim3(blocks_for(p.columns, kWarp), outs), kPartialWarps * kWarp}, sum_partials_kernel<A, outs>,
           p);
}

}  // namespace libtrain::kernels
