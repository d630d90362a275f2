// Shapes    y [s0, s1, s2, s3]; mask, a and b likewise, each with dimensions that it repeats (strides 0); a or b may be one number.
// Mapping   Rows of the last dimension are cut into packs of 16 bytes of y (the last of a row element by element; single elements where rows
//           or addresses do not divide into packs); a thread owns one and strides over the grid.
// Traffic   Reads mask, a and b as far as they are not repeated, also where they are not chosen, and writes y (and reads it first where it
//           adds): 3 x size + 4 bytes an element for equal shapes. Bound by memory.
// Numerics  Exact; one addition in f32 (f64 for f64), rounded once, when it adds.
// Measured  docs/kernels.md.
#include "kernels/select.h"

#include "kernels/cuda/broadcast.cuh"

namespace libtrain::kernels {
namespace {

/// Bit j: whether the mask is true for neighbour j.
template <int width>
__device__ inline unsigned load_mask(const Operand<int32_t>& mask, const RowPlace& row, int64_t column) {
  const int32_t* start = row_start(mask, row);
  if (mask.strides[3] == 0) return *start ? 0xFFu : 0u;
  unsigned bits = 0;
  if constexpr (width == 2) {
    const uint2 two = load_8(start + column);
    bits = unsigned(two.x != 0) | unsigned(two.y != 0) << 1;
  } else if constexpr (width >= 4) {
#pragma unroll
    for (int j = 0; j < width; j += 4) {
      const uint4 four = load_16(start + column + j);
      bits |=
          (unsigned(four.x != 0) | unsigned(four.y != 0) << 1 | unsigned(four.z != 0) << 2 | unsigned(four.w != 0) << 3)
          << j;
    }
  } else {
    bits = start[column] != 0;
  }
  return bits;
}

/// y (+)= mask ? a : b, `width` elements a thread; a row has `across` such parts.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    select_kernel(Select<T> k, int64_t parts, int64_t across) {
  const accum_t<T> number = accum_t<T>(T(accum_t<T>(k.number)));
  for_row_parts<width>(k.sizes, parts, across, [&]<int size>(const RowPlace& row, int64_t column, int64_t place) {
    const unsigned mask = load_mask<size>(k.mask, row, column);
    auto a = same_elements<T, size>(number), b = a;
    if (k.in[0].data) a = load_operand<size>(k.in[0], row, column);
    if (k.in[1].data) b = load_operand<size>(k.in[1], row, column);
#pragma unroll
    for (int j = 0; j < size; ++j) a.at[j] = mask >> j & 1 ? a.at[j] : b.at[j];
    put_elements(k.y.data + place, a, k.y.accumulate);
  });
}

}  // namespace

template <class T> void select(Cuda where, const Select<T>& k) {
  constexpr int kSize = Pack<T>::kSize;
  const bool fit = rows_of_packs(k.mask, k.sizes, kSize) && rows_of_packs(k.in[0], k.sizes, kSize) &&
                   rows_of_packs(k.in[1], k.sizes, kSize);
  const RowParts parts = row_parts<T>(k.sizes, k.y.data, fit);
  launch(where, "select", parts.shape(), parts.wide ? select_kernel<kSize, T> : select_kernel<1, T>, k, parts.count,
         parts.across);
}

#define INSTANTIATE(T) template void select(Cuda, const Select<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
