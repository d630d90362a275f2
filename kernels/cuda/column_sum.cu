// Shapes    x [rows, columns]; out [columns].
// Mapping   Block: 32 packs of columns (where rows do not divide into packs, 32 columns) and a share of the rows; each of its 8 warps
//           walks every eighth of them with the sums of its lanes' columns in registers. Warps are added up in order through shared memory,
//           blocks by the second stage (partials.cuh). Narrow matrices leave lanes idle.
// Traffic   Reads x; partial sums are at most column_sum_blocks() rows. Bound by memory.
// Numerics  Sums in f32 (f64 for f64) in an order that follows from the shape alone.
// Measured  Not yet on a device.
#include "kernels/column_sum.h"

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/partials.cuh"

namespace libtrain::kernels {
namespace {

constexpr int kWarps = kBlockThreads / kWarp;

/// partial[blockIdx.y][c] = sum of x[r][c] over the rows r of the block, `width` columns a lane.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    sum_rows(const T* x, int64_t rows, int64_t columns, accum_t<T>* partial) {
  using A = accum_t<T>;
  __shared__ A of_warp[kWarps][width][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t column = (blockIdx.x * int64_t(kWarp) + lane) * width;
  Elements<T, width> sum{};
  if (column < columns)
    for (int64_t row = blockIdx.y * int64_t(kWarps) + warp; row < rows; row += int64_t(gridDim.y) * kWarps) {
      const auto add = load_elements<width>(x + row * columns + column);
#pragma unroll
      for (int j = 0; j < width; ++j) sum.at[j] += add.at[j];
    }
#pragma unroll
  for (int j = 0; j < width; ++j) of_warp[warp][j][lane] = sum.at[j];
  __syncthreads();
  for (int i = threadIdx.x; i < kWarp * width; i += kBlockThreads) {
    const int64_t mine = int64_t(blockIdx.x) * kWarp * width + i;
    if (mine >= columns) break;
    A total = of_warp[0][i % width][i / width];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) total += of_warp[w][i % width][i / width];
    partial[blockIdx.y * columns + mine] = total;
  }
}

template <int width, class T> void launch_sum_rows(Cuda where, const ColumnSum<T>& k, int64_t blocks) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  launch(where, "column_sum", {dim3(blocks_for(columns, kWarp * width), unsigned(blocks)), kBlockThreads},
         sum_rows<width, T>, k.x.data, rows, columns, k.workspace.data);
}

}  // namespace

template <class T> void column_sum(Cuda where, const ColumnSum<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1], blocks = column_sum_blocks(where, rows, columns);
  if (packs_fit(k.x.data, columns))
    launch_sum_rows<Pack<T>::kSize>(where, k, blocks);
  else
    launch_sum_rows<1>(where, k, blocks);
  sum_partials(where, "column_sum_partials", Partials<accum_t<T>, 1>{k.workspace.data, blocks, columns, {k.out}});
}

#define INSTANTIATE(T) template void column_sum(Cuda, const ColumnSum<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
