/// How the kernels of broadcast.cu and select.cu walk y and find what meets its elements.
#pragma once
#include "kernels/broadcast.h"
#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {

/// A row of y: its place in each dimension but the last.
struct RowPlace {
  int64_t at[3];
};
__device__ inline RowPlace row_place(const std::array<int64_t, 4>& sizes, int64_t row) {
  RowPlace place{};
#pragma unroll
  for (int d = 2; d >= 0 && row > 0; --d) {
    const int64_t next = row / sizes[d];
    place.at[d] = row - next * sizes[d];
    row = next;
  }
  return place;
}

/// Where an argument's part of the row begins.
template <class T> __device__ inline const T* row_start(const Operand<T>& in, const RowPlace& row) {
  return in.data + row.at[0] * in.strides[0] + row.at[1] * in.strides[1] + row.at[2] * in.strides[2];
}

/// `value` for `width` neighbours.
template <class T, int width> __device__ inline Elements<T, width> same_elements(accum_t<T> value) {
  Elements<T, width> same;
#pragma unroll
  for (int j = 0; j < width; ++j) same.at[j] = value;
  return same;
}

/// `width` elements of an argument from `column` of a row on, or its only one for all of them.
template <int width, class T>
__device__ inline Elements<T, width> load_operand(const Operand<T>& in, const RowPlace& row, int64_t column) {
  const T* start = row_start(in, row);
  if (in.strides[3]) return load_elements<width>(start + column);
  return same_elements<T, width>(accum_t<T>(*start));
}

/// Calls each.template operator()<width>(row, column, place in y) for the parts of y's rows, of which there are `across` each: `width`
/// elements, or one where a row ends.
template <int width, class F> __device__ inline void for_row_parts(const std::array<int64_t, 4>& sizes, int64_t parts,
                                                                   int64_t across, const F& each) {
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < parts; i += stride) {
    const int64_t row = i < across ? 0 : i / across, first = (i - row * across) * width;
    const RowPlace place = row_place(sizes, row);
    if (first + width <= sizes[3])
      each.template operator()<width>(place, first, row * sizes[3] + first);
    else
      for (int64_t c = first; c < sizes[3]; ++c) each.template operator()<1>(place, c, row * sizes[3] + c);
  }
}

/// How y is cut into such parts.
struct RowParts {
  bool wide;  // into packs, not elements
  int64_t count, across;
  LaunchShape shape() const { return {persistent_blocks(count, kBlockThreads, 8), kBlockThreads}; }
};

/// Whether rows begin at multiples of `size` elements and of 16 bytes in an argument whose elements follow each other.
template <class T> bool rows_of_packs(const Operand<T>& in, const std::array<int64_t, 4>& sizes, int size) {
  if (!in.data || in.strides[3] == 0) return true;
  bool fit = aligned_16(in.data);
  for (int d = 0; d < 3; ++d) fit &= sizes[d] == 1 || in.strides[d] % size == 0;
  return fit;
}

/// The parts of y, elements of type T, where `fit` tells whether the arguments are made of packs.
template <class T, class Out> RowParts row_parts(const std::array<int64_t, 4>& sizes, const Out* y, bool fit) {
  constexpr int kSize = Pack<T>::kSize;
  const int64_t rows = sizes[0] * sizes[1] * sizes[2];
  const bool wide = fit && aligned_16(y) && (rows == 1 || sizes[3] % kSize == 0);
  const int64_t across = wide ? (sizes[3] + kSize - 1) / kSize : sizes[3];
  return {wide, rows * across, across};
}

}  // namespace libtrain::kernels
