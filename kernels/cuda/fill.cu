// Shapes    y [size].
// Mapping   A thread owns 16 bytes of y and strides over the grid; the first threads also write the elements before and after the last
//           whole 16 bytes.
// Traffic   Writes y; bound by memory.
// Numerics  Exact.
// Measured  docs/kernels.md.
#include "kernels/fill.h"

#include <algorithm>
#include <array>
#include <bit>

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// y: `head` elements, `packs` times 16 bytes, `tail` elements.
template <class T> __global__ void __launch_bounds__(kBlockThreads)
    fill_elements(T* y, T value, uint4 pack, int64_t head, int64_t packs, int64_t tail) {
  constexpr int kSize = 16 / sizeof(T);
  const int64_t first = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x;
  for (int64_t i = first; i < packs; i += int64_t(gridDim.x) * kBlockThreads) store_16(y + head + i * kSize, pack);
  if (first < head) y[first] = value;
  if (first < tail) y[head + packs * kSize + first] = value;
}

/// 16 bytes of the value.
template <class T> uint4 pack_of(T value) {
  std::array<T, 16 / sizeof(T)> values;
  values.fill(value);
  return std::bit_cast<uint4>(values);
}

}  // namespace

template <class T> void fill(Cuda where, const Fill<T>& k) {
  constexpr int64_t kSize = 16 / sizeof(T);
  const int64_t size = k.y.size(), misplaced = reinterpret_cast<uintptr_t>(k.y.data) % 16 / sizeof(T);
  if (size == 0) return;
  const int64_t head = std::min(size, (kSize - misplaced) % kSize), packs = (size - head) / kSize;
  const LaunchShape shape{persistent_blocks(std::max<int64_t>(packs, 1), kBlockThreads, 8), kBlockThreads};
  launch(where, "fill", shape, fill_elements<T>, k.y.data, k.value, pack_of(k.value), head, packs,
         size - head - packs * kSize);
}

#define INSTANTIATE(T) template void fill(Cuda, const Fill<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)
INSTANTIATE(int32_t)
INSTANTIATE(int64_t)

}  // namespace libtrain::kernels
