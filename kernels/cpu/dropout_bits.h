/// Dropout on the CPU: random bits for many neighbouring columns at once, those of dropout_bits() in kernels/philox.h.
#pragma once
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include <bit>
#include <cstring>

#include "kernels/cpu/common.h"
#include "kernels/dropout.h"

namespace libtrain::kernels {
namespace {

constexpr int kPhiloxLanes = 16;                 // counters that one vector of 512 bits holds
constexpr int kDropoutChunk = 8 * kPhiloxLanes;  // columns they serve

static_assert(std::endian::native == std::endian::little, "the bits of a word are stored lower half first");

LIBTRAIN_INLINE uint64_t product(uint32_t factor, uint32_t number) { return uint64_t(factor) * number; }
#ifdef __AVX2__
/// Four numbers of 32 bits, each in the lower half of 64, as AVX2 multiplies them. Their upper halves are never looked at.
typedef uint64_t Lanes __attribute__((vector_size(32)));
LIBTRAIN_INLINE Lanes in_lanes(uint32_t number) { return Lanes{number, number, number, number}; }
LIBTRAIN_INLINE Lanes product(uint32_t factor, Lanes numbers) {
  return Lanes(_mm256_mul_epu32(__m256i(numbers), __m256i(in_lanes(factor))));
}
#endif

/// The random bits of eight neighbouring columns, the lower half of a word first, or those of four times eight in lanes.
template <class N> struct DropoutWords { N first, second, third, fourth; };
/// dropout_bits() of kernels/philox.h in variables of their own and rounds that are unrolled, so that loops over columns or rows become
/// vectors.
template <class N> LIBTRAIN_INLINE DropoutWords<N> dropout_words(uint64_t key, N c0, N c1, N c2, N c3) {
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
#pragma GCC unroll 7
  for (int round = 0; round < 7; ++round) {
    const auto a = product(0xD2511F53u, c0), b = product(0xCD9E8D57u, c2);
    c0 = N(b >> 32) ^ c1 ^ k0;
    c1 = N(b);
    c2 = N(a >> 32) ^ c3 ^ k1;
    c3 = N(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

/// bits[i] = the 16 random bits of column kDropoutChunk * chunk + i of `row`.
LIBTRAIN_INLINE void dropout_chunk(uint64_t key, DropoutRow row, uint32_t chunk, uint16_t* bits) {
  const uint32_t block = chunk * kPhiloxLanes;
#ifdef __AVX2__
  if constexpr (kIsa == Isa::kAvx2) {
    const auto pair = [](Lanes low, Lanes high) { return (low & 0xFFFFFFFF) | high << 32; };
    for (uint32_t i = 0; i < kPhiloxLanes; i += 4, bits += 32) {
      const auto words = dropout_words(key, in_lanes(block + i) + Lanes{0, 1, 2, 3}, in_lanes(row.position),
                                       in_lanes(row.sequence), in_lanes(row.stream));
      const Lanes front = pair(words.first, words.second), back = pair(words.third, words.fourth);
      const Lanes halves[] = {__builtin_shufflevector(front, back, 0, 4, 1, 5),
                              __builtin_shufflevector(front, back, 2, 6, 3, 7)};
      std::memcpy(bits, halves, sizeof halves);
    }
    return;
  }
#endif
  DropoutWords<uint32_t> words[kPhiloxLanes];
#pragma omp simd
  for (int i = 0; i < kPhiloxLanes; ++i)
    words[i] = dropout_words(key, block + uint32_t(i), row.position, row.sequence, row.stream);
  std::memcpy(bits, words, sizeof words);
}

/// words[w][i] = word w of eight columns, block `block`, of the row whose position is that of `first` and i.
LIBTRAIN_INLINE void dropout_rows(uint64_t key, DropoutRow first, uint32_t block, uint32_t (&words)[4][kPhiloxLanes]) {
#ifdef __AVX2__
  if constexpr (kIsa == Isa::kAvx2) {
    typedef uint32_t Narrow __attribute__((vector_size(16)));
    for (uint32_t i = 0; i < kPhiloxLanes; i += 4) {
      const auto drawn = dropout_words(key, in_lanes(block), in_lanes(first.position + i) + Lanes{0, 1, 2, 3},
                                       in_lanes(first.sequence), in_lanes(first.stream));
      const Lanes wide[] = {drawn.first, drawn.second, drawn.third, drawn.fourth};
      for (int w = 0; w < 4; ++w) {
        const Narrow narrow = __builtin_convertvector(wide[w], Narrow);
        std::memcpy(words[w] + i, &narrow, sizeof narrow);
      }
    }
    return;
  }
#endif
#pragma omp simd
  for (int i = 0; i < kPhiloxLanes; ++i) {
    const auto drawn = dropout_words(key, block, first.position + uint32_t(i), first.sequence, first.stream);
    words[0][i] = drawn.first;
    words[1][i] = drawn.second;
    words[2][i] = drawn.third;
    words[3][i] = drawn.fourth;
  }
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
