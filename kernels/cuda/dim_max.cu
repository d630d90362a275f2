// Shapes    x, dx [outer, count, inner]; y, index, dy [outer, inner].
// Mapping   inner 1: a warp owns a row of up to 1,024, a block a longer one; threads read packs of 16 bytes (or elements). Otherwise a thread
//           owns an element of y, and walks over count, neighbours in inner side by side. backward: a thread owns an element of dy.
// Traffic   Forward reads x, backward writes an element of dx for each of dy. Bound by memory; where outer x inner is small and inner is not 1,
//           by latency.
// Numerics  Exact; one addition in f32 (f64 for f64), rounded once, backward.
// Measured  docs/kernels.md.
#include "kernels/dim_max.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// The largest element so far, and its place.
template <class A> struct Largest {
  A value;
  int place;  // -1: none yet

  __device__ void see(A other, int where) {
    if (place < 0 || is_larger(other, value) || (!is_larger(value, other) && where < place))
      value = other, place = where;
  }
  /// Sees another thread's, if it has any.
  __device__ void see(const Largest& other) {
    if (other.place >= 0) see(other.value, other.place);
  }
};

/// The warp's, in every lane.
template <class A> __device__ inline Largest<A> warp_largest(Largest<A> mine) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const A value = __shfl_xor_sync(kAllLanes, mine.value, distance);
    const int place = __shfl_xor_sync(kAllLanes, mine.place, distance);
    mine.see(Largest<A>{value, place});
  }
  return mine;
}

/// The block's, in every thread. Holds two barriers.
template <class A> __device__ inline Largest<A> block_largest(Largest<A> mine) {
  constexpr int kWarps = kBlockThreads / kWarp;
  __shared__ A values[kWarps];
  __shared__ int places[kWarps];
  mine = warp_largest(mine);
  if (threadIdx.x % kWarp == 0) values[threadIdx.x / kWarp] = mine.value, places[threadIdx.x / kWarp] = mine.place;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) mine.see(Largest<A>{values[warp], places[warp]});
  __syncthreads();  // a further call writes again
  return mine;
}

/// y and index of rows, of which a group of `group` threads owns one at a time.
template <int width, int group, class T> __global__ void __launch_bounds__(kBlockThreads) along_kernel(DimMax<T> k) {
  using A = accum_t<T>;
  constexpr int kGroups = kBlockThreads / group;
  const int64_t rows = k.x.dims[0], count = k.x.dims[1], stride = int64_t(gridDim.x) * kGroups;
  for (int64_t row = blockIdx.x * int64_t(kGroups) + threadIdx.x / group; row < rows; row += stride) {
    Largest<A> largest{A(0), -1};
    for (int64_t c = threadIdx.x % group * width; c < count; c += group * width) {
      const auto values = load_elements<width>(k.x.data + row * count + c);
#pragma unroll
      for (int j = 0; j < width; ++j) largest.see(values.at[j], int(c) + j);
    }
    if constexpr (group == kWarp)
      largest = warp_largest(largest);
    else
      largest = block_largest(largest);
    if (threadIdx.x % group != 0) continue;
    k.y.data[row] = T(largest.value);
    k.index.data[row] = largest.place;
  }
}

/// y and index, an element a thread.
template <class T> __global__ void __launch_bounds__(kBlockThreads) across_kernel(DimMax<T> k) {
  using A = accum_t<T>;
  const int64_t count = k.x.dims[1], inner = k.x.dims[2], size = k.x.dims[0] * inner;
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
  for (int64_t at = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; at < size; at += stride) {
    const int64_t o = at / inner;
    const T* x = k.x.data + (o * count * inner + at - o * inner);
    Largest<A> largest{A(x[0]), 0};
#pragma unroll 4
    for (int64_t c = 1; c < count; ++c) largest.see(A(x[c * inner]), int(c));
    k.y.data[at] = T(largest.value);
    k.index.data[at] = largest.place;
  }
}

/// dx at the largest elements, one a thread.
template <class T> __global__ void __launch_bounds__(kBlockThreads) backward_kernel(DimMaxGradient<T> k) {
  const int64_t inner = k.dy.dims[1], size = k.dy.dims[0] * inner, stride = int64_t(gridDim.x) * kBlockThreads;
  for (int64_t at = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; at < size; at += stride) {
    const int64_t o = at / inner;
    put(k.dx[(o * k.count + k.index.data[at]) * inner + (at - o * inner)], accum_t<T>(k.dy.data[at]), true);
  }
}

}  // namespace

template <class T> void dim_max_forward(Cuda where, const DimMax<T>& k) {
  constexpr int kSize = Pack<T>::kSize;
  const auto [outer, count, inner, d3] = k.x.dims;
  if (inner != 1)
    return launch(where, "dim_max_forward", {persistent_blocks(outer * inner, kBlockThreads, 8), kBlockThreads},
                  across_kernel<T>, k);
  const bool by_warp = count <= 1024, packs = packs_fit(k.x.data, count);
  const auto kernel = by_warp ? packs ? along_kernel<kSize, kWarp, T> : along_kernel<1, kWarp, T>
                      : packs ? along_kernel<kSize, kBlockThreads, T>
                              : along_kernel<1, kBlockThreads, T>;
  const unsigned blocks = persistent_blocks(outer, by_warp ? kBlockThreads / kWarp : 1, 8);
  launch(where, "dim_max_forward", {blocks, kBlockThreads}, kernel, k);
}

template <class T> void dim_max_backward(Cuda where, const DimMaxGradient<T>& k) {
  launch(where, "dim_max_backward", {persistent_blocks(k.dy.size(), kBlockThreads, 8), kBlockThreads},
         backward_kernel<T>, k);
}

#define INSTANTIATE(T)                                   \
  template void dim_max_forward(Cuda, const DimMax<T>&); \
  template void dim_max_backward(Cuda, const DimMaxGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
