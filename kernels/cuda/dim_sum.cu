// Shapes    x, dx [outer, count, inner]; y, dy [outer, inner]; workspace [pieces, outer, inner].
// Mapping   inner 1: a warp owns a row or, where rows are few, a piece of one. Otherwise a block owns 32 packs of inner (32 elements, where
//           inner does not divide into packs) and a piece of count, over which its 8 warps stride with the sums of their lanes in registers;
//           warps are added up in order through shared memory. A second launch adds the pieces up, where there are several.
//           backward: a thread owns a pack of dx (or an element) and strides over the grid.
// Traffic   Reads x, writes y; the sums of pieces are at most 512 x 128 elements. Backward writes dx; dy comes again from the cache. Bound by memory. Narrow inner dimensions leave lanes idle.
// Numerics  Sums in f32 (f64 for f64), in an order that depends on the shape and on whether packs fit.
// Measured  docs/kernels.md.
#include "kernels/dim_sum.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

constexpr int kWarps = kBlockThreads / kWarp;

/// Piece p of the dimension.
struct Piece {
  int64_t begin, end;
};
__device__ inline Piece piece_of(int64_t count, int64_t p, int64_t pieces) {
  return {count * p / pieces, count * (p + 1) / pieces};
}

/// Sums of rows' pieces, to y [pieces, outer]: a warp each.
template <class From, class To> __global__ void __launch_bounds__(kBlockThreads)
    sum_along(View<const From> x, int64_t pieces, accum_t<From> scale, Sink<To> y) {
  using A = accum_t<From>;
  const int64_t outer = x.dims[0], count = x.dims[1], stride = int64_t(gridDim.x) * kWarps;
  for (int64_t i = blockIdx.x * int64_t(kWarps) + threadIdx.x / kWarp; i < outer * pieces; i += stride) {
    const int64_t p = i / outer, row = i - p * outer;
    const Piece piece = piece_of(count, p, pieces);
    A sum = 0;
#pragma unroll 4
    for (int64_t c = piece.begin + threadIdx.x % kWarp; c < piece.end; c += kWarp) sum += A(x.data[row * count + c]);
    sum = warp_reduce<Sum>(sum);
    if (threadIdx.x % kWarp == 0) put(y.data[i], sum * scale, y.accumulate);
  }
}

/// Sums over a piece of count, to y [pieces, outer, inner]: `width` elements of inner a lane, `across` blocks for all of them.
template <int width, class From, class To> __global__ void __launch_bounds__(kBlockThreads)
    sum_across(View<const From> x, int64_t across, int64_t pieces, accum_t<From> scale, Sink<To> y) {
  using A = accum_t<From>;
  // Lane after lane, so that a warp writes to all banks; padded, so that it meets all when it reads element after element.
  constexpr int kPadding = width == 1 ? 0 : kBanks<A> / width;
  __shared__ A of_warp[kWarps][width][kWarp + kPadding];
  const int64_t outer = x.dims[0], count = x.dims[1], inner = x.dims[2], items = outer * across * pieces;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t row = item / across, first = (item - row * across) * kWarp * width, p = row / outer;
    const Piece piece = piece_of(count, p, pieces);
    const From* from = x.data + (row - p * outer) * count * inner + first;
    Elements<From, width> sum{};
    for (int64_t c = first + lane * width < inner ? piece.begin + warp : piece.end; c < piece.end; c += kWarps)
      sum = plus(sum, load_elements<width>(from + c * inner + lane * width));
#pragma unroll
    for (int j = 0; j < width; ++j) of_warp[warp][j][lane] = sum.at[j];
    __syncthreads();
    const int i = threadIdx.x;
    if (i < kWarp * width && first + i < inner) {
      A total = of_warp[0][i % width][i / width];
#pragma unroll
      for (int w = 1; w < kWarps; ++w) total += of_warp[w][i % width][i / width];
      put(y.data[row * inner + first + i], total * scale, y.accumulate);
    }
    __syncthreads();
  }
}

/// dx, `width` neighbours of inner a thread; a row of inner has `parts` of them.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    spread_across(DimSumGradient<T> k, int64_t count, int64_t parts) {
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < count; i += stride) {
    const int64_t row = i / parts, part = i - row * parts;
    const auto dy = load_elements<width>(k.dy.data + row / k.count * k.dy.dims[1] + part * width);
    auto values = elements_as<T>(dy);
#pragma unroll
    for (int j = 0; j < width; ++j) values.at[j] *= accum_t<T>(k.scale);
    put_elements(k.dx.data + i * width, values, k.dx.accumulate);
  }
}

template <class From, class To>
void launch_sums(Cuda where, View<const From> x, int64_t pieces, double scale, Sink<To> y) {
  using A = accum_t<From>;
  const auto [outer, count, inner, d3] = x.dims;
  if (inner == 1) {
    const LaunchShape shape{persistent_blocks(outer * pieces, kWarps, 8), kBlockThreads};
    return launch(where, "dim_sum", shape, sum_along<From, To>, x, pieces, A(scale), y);
  }
  constexpr int kSize = Pack<From>::kSize;
  const bool wide = packs_fit(x.data, inner);
  const int64_t across = blocks_for(inner, kWarp * (wide ? kSize : 1));
  launch(where, "dim_sum", {persistent_blocks(outer * across * pieces, 1, 8), kBlockThreads},
         wide ? sum_across<kSize, From, To> : sum_across<1, From, To>, x, across, pieces, A(scale), y);
}

}  // namespace

template <class From, class To> void dim_sum(Cuda where, const DimSum<From, To>& k) {
  using A = accum_t<From>;
  const auto [outer, count, inner, d3] = k.x.dims;
  const int64_t pieces = dim_sum_pieces(outer, count, inner);
  if (pieces == 1) return launch_sums(where, k.x, 1, k.scale, k.y);
  launch_sums(where, k.x, pieces, 1, Sink<A>{k.workspace.data});
  launch_sums(where, View<const A>{k.workspace.data, {1, pieces, outer * inner, 1}}, 1, k.scale, k.y);
}

template <class T> void dim_sum_backward(Cuda where, const DimSumGradient<T>& k) {
  constexpr int kWide = Pack<T>::kSize;
  const bool wide = packs_fit(k.dx.data, k.dy.dims[1]) && aligned_16(k.dy.data);
  const int64_t parts = wide ? k.dy.dims[1] / kWide : k.dy.dims[1], count = k.dy.dims[0] * k.count * parts;
  const LaunchShape shape{persistent_blocks(count, kBlockThreads, 8), kBlockThreads};
  launch(where, "dim_sum_backward", shape, wide ? spread_across<kWide, T> : spread_across<1, T>, k, count, parts);
}

#define INSTANTIATE(From, To) template void dim_sum(Cuda, const DimSum<From, To>&);
INSTANTIATE(float, float)
INSTANTIATE(float, bf16)
INSTANTIATE(bf16, float)
INSTANTIATE(bf16, bf16)
INSTANTIATE(double, double)
#define INSTANTIATE_BACKWARD(T) template void dim_sum_backward(Cuda, const DimSumGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE_BACKWARD)

}  // namespace libtrain::kernels
