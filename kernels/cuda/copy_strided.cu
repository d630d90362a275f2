// Shapes    A block [s0, s1, s2, s3] of x and of y, each with strides of its own; y's last stride is 1.
// Mapping   Where the last stride of x is 1 too, a thread owns a pack of 16 bytes of y (or an element) and strides over the grid.
//           Where another stride of x is 1, blocks of 32 x 8 threads walk tiles of 32 x 32 elements of that dimension and the last:
//           read along x, turned in shared memory, written along y. Where none is, a thread owns an element.
// Traffic   Reads the block, writes it: 2 x its size, 3 x when it adds. Rows of the tile are padded so that neither reading nor writing
//           it meets a bank twice. Bound by memory.
// Numerics  Exact; one addition in f32 (f64 for f64), rounded once, when it adds.
// Measured  docs/kernels.md.
#include "kernels/copy_strided.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

constexpr int kTile = 32, kTileRows = kBlockThreads / kTile;

/// Where element (or pack) i of a block lies, of which the last size counts parts.
struct Place {
  int64_t x, y;
};
template <class T> __device__ inline Place place_of(const CopyStrided<T>& k, int64_t i, int width) {
  Place place{0, 0};
#pragma unroll
  for (int d = 3; d >= 0; --d) {
    const int64_t next = i / k.sizes[d], at = (i - next * k.sizes[d]) * (d == 3 ? width : 1);
    place.x += at * k.x_strides[d];
    place.y += at * k.y_strides[d];
    i = next;
  }
  return place;
}

/// `width` neighbours of y a thread, neighbours in x too if there are several; the last of k's sizes counts them.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    copy_parts(CopyStrided<T> k, int64_t parts) {
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < parts; i += stride) {
    const Place place = place_of(k, i, width);
    put_elements(k.y.data + place.y, load_elements<width>(k.x + place.x), k.y.accumulate);
  }
}

/// Tiles over dimension 2, along which x has stride 1, and dimension 3, along which y has.
template <class T> __global__ void __launch_bounds__(kBlockThreads)
    copy_tiles(CopyStrided<T> k, int64_t tiles, int64_t down, int64_t across) {
  __shared__ T tile[kTile][kTile + (sizeof(T) == 2 ? 2 : 1)];
  const int column = threadIdx.x % kTile, row = threadIdx.x / kTile;
  for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const int64_t first2 = t / across % down * kTile, first3 = t % across * kTile, outer = t / across / down;
    const int64_t at0 = outer / k.sizes[1], at1 = outer - at0 * k.sizes[1];
    const T* x = k.x + at0 * k.x_strides[0] + at1 * k.x_strides[1];
    T* y = k.y.data + at0 * k.y_strides[0] + at1 * k.y_strides[1];
#pragma unroll
    for (int r = row; r < kTile; r += kTileRows)
      if (first2 + column < k.sizes[2] && first3 + r < k.sizes[3])
        tile[r][column] = x[first2 + column + (first3 + r) * k.x_strides[3]];
    __syncthreads();
#pragma unroll
    for (int r = row; r < kTile; r += kTileRows)
      if (first2 + r < k.sizes[2] && first3 + column < k.sizes[3])
        put(y[(first2 + r) * k.y_strides[2] + first3 + column], accum_t<T>(tile[column][r]), k.y.accumulate);
    __syncthreads();
  }
}

/// Whether x and y are made of packs everywhere.
template <class T> bool all_packs(const CopyStrided<T>& k) {
  bool fit = k.x_strides[3] == 1 && packs_fit(k.x, k.sizes[3]) && packs_fit(k.y.data, k.sizes[3]);
  for (int d = 0; d < 3; ++d)
    fit &= k.sizes[d] == 1 || (packs_fit(k.x, k.x_strides[d]) && packs_fit(k.y.data, k.y_strides[d]));
  return fit;
}

template <class T> void launch_parts(Cuda where, CopyStrided<T> k) {
  const bool wide = all_packs(k);
  if (wide) k.sizes[3] /= Pack<T>::kSize;
  const int64_t parts = k.sizes[0] * k.sizes[1] * k.sizes[2] * k.sizes[3];
  const LaunchShape shape{persistent_blocks(parts, kBlockThreads, 8), kBlockThreads};
  launch(where, "copy_strided", shape, wide ? copy_parts<Pack<T>::kSize, T> : copy_parts<1, T>, k, parts);
}

template <class T> void launch_tiles(Cuda where, CopyStrided<T> k, int along_x) {
  std::swap(k.sizes[along_x], k.sizes[2]);
  std::swap(k.x_strides[along_x], k.x_strides[2]);
  std::swap(k.y_strides[along_x], k.y_strides[2]);
  const int64_t down = (k.sizes[2] + kTile - 1) / kTile, across = (k.sizes[3] + kTile - 1) / kTile;
  const int64_t tiles = k.sizes[0] * k.sizes[1] * down * across;
  launch(where, "copy_strided", {persistent_blocks(tiles, 1, 8), kBlockThreads}, copy_tiles<T>, k, tiles, down, across);
}

}  // namespace

template <class T> void copy_strided(Cuda where, const CopyStrided<T>& k) {
  if (std::ranges::count(k.sizes, 0)) return;
  int along_x = 0;
  while (along_x < 3 && (k.x_strides[along_x] != 1 || k.sizes[along_x] == 1)) ++along_x;
  const bool turns = k.x_strides[3] != 1 && k.sizes[3] > 1 && along_x < 3;
  turns ? launch_tiles(where, k, along_x) : launch_parts(where, k);
}

#define INSTANTIATE(T) template void copy_strided(Cuda, const CopyStrided<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
