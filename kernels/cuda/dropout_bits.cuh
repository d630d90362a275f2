/// Dropout of the columns that a thread holds of a row, by the bits of kernels/philox.h.
#pragma once
#include "kernels/cuda/common.cuh"
#include "kernels/philox.h"

namespace libtrain::kernels {

/// The (sequence, position) that row `row` of `k` stands for; `k` has the sequences, positions and stream of Dropout.
template <class K> __device__ inline DropoutRow dropout_row(const K& k, int64_t row) {
  const uint32_t position = uint32_t(k.positions.data ? k.positions.data[row] : row);
  return {position, k.sequences.data ? uint32_t(k.sequences.data[row]) : 0u, k.stream};
}

template <class A> struct Dropper {
  uint64_t key;
  uint32_t threshold;
  A scale;

  __device__ Dropper(RandomState state, float p)
      : key(random_key(state)), threshold(dropout_threshold(p)), scale(A(dropout_scale(p))) {}

  /// Eight columns from `column` on, a multiple of eight.
  __device__ void drop(A (&values)[8], DropoutRow row, int64_t column) const {
    const auto bits = dropout_bits(key, row, uint32_t(column / 8));
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] = bits[j] >= threshold ? values[j] * scale : A(0);
  }

  /// One column.
  __device__ void drop(A (&values)[1], DropoutRow row, int64_t column) const {
    const auto bits = dropout_bits(key, row, uint32_t(column / 8));
    uint32_t mine = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) mine = j == column % 8 ? bits[j] : mine;  // an index would put the bits into memory
    values[0] = mine >= threshold ? values[0] * scale : A(0);
  }
};

}  // namespace libtrain::kernels
