/// Dropout of the columns that a thread holds of a row, by the bits of kernels/philox.h.
#pragma once
#include "kernels/cuda/common.cuh"
#include "kernels/dropout.h"

namespace libtrain::kernels {

/// For philox: left to 64-bit products, nvcc makes 64-bit numbers of everything that their halves meet, a fifth more instructions.
struct MultiplyHalves {
  __device__ libtrain::detail::WideProduct operator()(uint32_t a, uint32_t b) const { return {a * b, __umulhi(a, b)}; }
};

/// What the rows of a matrix share, in arithmetic of type A. Without a state it must not be asked to drop.
template <class A> struct Dropper {
  uint64_t key;
  uint32_t bound;  // the threshold, in the upper half
  A scale;

  __device__ explicit Dropper(const DropoutMask& mask)
      : key(mask.state ? random_key(*mask.state) : 0),
        bound(dropout_threshold(mask.p) << 16),
        scale(A(dropout_scale(mask.p))) {}

  /// The (sequence, position) that row `row` stands for.
  __device__ static DropoutRow place_of(const DropoutMask& mask, int64_t row) {
    const uint32_t position = uint32_t(mask.positions.data ? mask.positions.data[row] : row);
    return {position, mask.sequences.data ? uint32_t(mask.sequences.data[row]) : 0u, mask.stream};
  }

  /// Drops from `width` neighbouring columns (1, 2, 4 or 8) of a row, the first of them, `column`, a multiple of that.
  template <int width> __device__ void drop(A (&values)[width], DropoutRow row, int64_t column) const {
    const auto word = dropout_words<MultiplyHalves>(key, row, uint32_t(column / 8));
    const auto bits_of = [&](int i) { return i % 2 ? word[i / 2] : word[i / 2] << 16; };  // in the upper half
#pragma unroll
    for (int j = 0; j < width; ++j) {
      uint32_t mine = bits_of(j);
#pragma unroll
      for (int first = width; first < 8; first += width) {  // by masks: a choice might become an index, and that memory
        const uint32_t chosen = int(column % 8) == first ? ~0u : 0u;
        mine = (mine & ~chosen) | (bits_of(first + j) & chosen);
      }
      values[j] = mine >= bound ? values[j] * scale : A(0);
    }
  }
};

/// Dropout as a thread applies it row by row, if at all. What names a row is asked for ahead of time: expect() it, later begin() it. Best when
/// the row before has just begun: begin() takes what was asked for into other registers, for which the compiler waits where a row ends.
template <class A> struct RowDropper {
  const DropoutMask& mask;
  Dropper<A> dropper;
  DropoutRow row, next;

  __device__ explicit RowDropper(const DropoutMask& m) : mask(m), dropper(m), row{0, 0, m.stream}, next(row) {}
  __device__ void expect(int64_t number) {
    if (mask.state) next = dropper.place_of(mask, number);
  }
  __device__ void begin() { row = next; }
  template <int width> __device__ void drop(A (&values)[width], int64_t column) const {
    if (mask.state) dropper.drop(values, row, column);
  }
};

}  // namespace libtrain::kernels
