/// Dropout on the CPU: random bits for many neighbouring columns at once, those of dropout_bits() in kernels/philox.h.
#pragma once
#include <bit>
#include <cstring>

#include "kernels/cpu/common.h"
#include "kernels/dropout.h"

namespace libtrain::kernels {
namespace {

constexpr int kPhiloxLanes = 16;                 // counters that one vector of 512 bits holds
constexpr int kDropoutChunk = 8 * kPhiloxLanes;  // columns they serve

static_assert(std::endian::native == std::endian::little, "the bits of a word are stored lower half first");

/// The random bits of eight neighbouring columns, the lower half of a word first: dropout_bits() of kernels/philox.h in variables of their own and
/// rounds that are unrolled, so that loops over columns or rows become vectors.
struct DropoutWords {
  uint32_t first, second, third, fourth;
};
LIBTRAIN_INLINE DropoutWords dropout_words(uint64_t key, uint32_t block, uint32_t position, uint32_t sequence,
                                           uint32_t stream) {
  uint32_t c0 = block, c1 = position, c2 = sequence, c3 = stream;
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
#pragma GCC unroll 7
  for (int round = 0; round < 7; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c0, b = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(b >> 32) ^ c1 ^ k0;
    c1 = uint32_t(b);
    c2 = uint32_t(a >> 32) ^ c3 ^ k1;
    c3 = uint32_t(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

/// bits[i] = the 16 random bits of column kDropoutChunk * chunk + i of `row`.
LIBTRAIN_INLINE void dropout_chunk(uint64_t key, DropoutRow row, uint32_t chunk, uint16_t* bits) {
  DropoutWords words[kPhiloxLanes];
#pragma omp simd
  for (int i = 0; i < kPhiloxLanes; ++i)
    words[i] = dropout_words(key, chunk * kPhiloxLanes + uint32_t(i), row.position, row.sequence, row.stream);
  std::memcpy(bits, words, sizeof words);
}

/// What the rows of a matrix share, in arithmetic of type A. Without a state everything is kept.
template <class A> struct Dropper {
  const DropoutMask& mask;
  uint64_t key = mask.state ? random_key(*mask.state) : 0;
  int32_t threshold = mask.state ? int32_t(dropout_threshold(mask.p)) : 0;
  A scale = mask.state ? A(dropout_scale(mask.p)) : A(1);

  /// The (sequence, position) that row `row` stands for.
  LIBTRAIN_INLINE DropoutRow place_of(int64_t row) const {
    const uint32_t position = uint32_t(mask.positions ? mask.positions.data[row] : row);
    return {position, mask.sequences ? uint32_t(mask.sequences.data[row]) : 0u, mask.stream};
  }
  /// Calls each(first, count, bits) for the chunks of row `row`: element first + i is kept if bits[i] >= threshold.
  template <class F> LIBTRAIN_INLINE void for_chunks_of(int64_t row, int64_t columns, const F& each) const {
    const DropoutRow place = place_of(row);
    uint16_t bits[kDropoutChunk] = {};
    for (int64_t first = 0; first < columns; first += kDropoutChunk) {
      if (mask.state) dropout_chunk(key, place, uint32_t(first / kDropoutChunk), bits);
      each(first, columns - first < kDropoutChunk ? columns - first : int64_t(kDropoutChunk), bits);
    }
  }
  /// value * scale where its bits keep it, else 0.
  LIBTRAIN_INLINE A drop(A value, uint16_t bits) const { return int32_t(bits) >= threshold ? value * scale : A(0); }
};

}  // namespace
}  // namespace libtrain::kernels
