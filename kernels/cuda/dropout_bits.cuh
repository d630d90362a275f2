/// Dropout of the columns that a thread holds of a row, by the bits of kernels/philox.h.
#pragma once
#include "kernels/cuda/common.cuh"
#include "kernels/dropout.h"

namespace libtrain::kernels {

/// What the rows of a matrix share, in arithmetic of type A. Without a state it must not be asked to drop.
template <class A> struct Dropper {
  uint64_t key;
  uint32_t threshold;
  A scale;

  __device__ explicit Dropper(const DropoutMask& mask)
      : key(mask.state ? random_key(*mask.state) : 0),
        threshold(dropout_threshold(mask.p)),
        scale(A(dropout_scale(mask.p))) {}

  /// The (sequence, position) that row `row` stands for.
  __device__ static DropoutRow place_of(const DropoutMask& mask, int64_t row) {
    const uint32_t position = uint32_t(mask.positions.data ? mask.positions.data[row] : row);
    return {position, mask.sequences.data ? uint32_t(mask.sequences.data[row]) : 0u, mask.stream};
  }

  /// Drops from `width` neighbouring columns (1, 2, 4 or 8) of a row, the first of them, `column`, a multiple of that.
  template <int width> __device__ void drop(A (&values)[width], DropoutRow row, int64_t column) const {
    const auto bits = dropout_bits(key, row, uint32_t(column / 8));
#pragma unroll
    for (int j = 0; j < width; ++j) {
      uint32_t mine = bits[j];
#pragma unroll
      for (int first = width; first < 8; first += width) {  // by masks: a choice might become an index, and that memory
        const uint32_t chosen = int(column % 8) == first ? 0xFFFFu : 0u;
        mine = (mine & ~chosen) | (bits[first + j] & chosen);
      }
      values[j] = mine >= threshold ? values[j] * scale : A(0);
    }
  }
};

/// Dropout as a thread applies it row by row, if at all. What names a row is asked for ahead of time: expect() it, later begin() it.
template <class A> struct RowDropper {
  const DropoutMask& mask;
  Dropper<A> dropper;
  DropoutRow row{}, next{};

  __device__ explicit RowDropper(const DropoutMask& m) : mask(m), dropper(m) {}
  __device__ void expect(int64_t number) {
    if (mask.state) next = dropper.place_of(mask, number);
  }
  __device__ void begin() { row = next; }
  template <int width> __device__ void drop(A (&values)[width], int64_t column) const {
    if (mask.state) dropper.drop(values, row, column);
  }
};

}  // namespace libtrain::kernels
