/// Counter-based random numbers: the same bits on every device, in any order, from any thread.
/// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x32).
#pragma once
#include <array>
#include <cstdint>

#include "kernels/view.h"

namespace libtrain {

/// Seed and step of a run. Lives in the memory of the device that uses it, so that a captured step sees each new value.
struct RandomState {
  uint64_t seed = 0;
  uint64_t step = 0;
};

namespace detail {
/// The halves of a product of two 32-bit numbers, and how they are come by.
struct WideProduct {
  uint32_t low, high;
};
struct WideMultiply {
  LIBTRAIN_HOST_DEVICE WideProduct operator()(uint32_t a, uint32_t b) const {
    const uint64_t product = uint64_t(a) * b;
    return {uint32_t(product), uint32_t(product >> 32)};
  }
};
}  // namespace detail

/// Philox4x32: 128 random bits for a 128-bit counter and a 64-bit key. 10 rounds are the authors' default; 7 still pass BigCrush
/// and are what dropout uses.
template <int rounds, class Multiplier = detail::WideMultiply>
LIBTRAIN_HOST_DEVICE inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < rounds; ++round) {
    const detail::WideProduct a = Multiplier()(0xD2511F53u, c[0]), b = Multiplier()(0xCD9E8D57u, c[2]);
    c = {b.high ^ c[1] ^ k0, b.low, a.high ^ c[3] ^ k1, a.low};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// Mixes seed and step into one Philox key (two rounds of SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
LIBTRAIN_HOST_DEVICE inline uint64_t random_key(RandomState state) {
  const auto mix = [](uint64_t z) {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  };
  return mix(state.seed ^ mix(state.step));
}

/// Dropout's coin: an element is kept when its 16 random bits are at or above this threshold, which they can be. p is in [0, 1).
LIBTRAIN_HOST_DEVICE inline uint32_t dropout_threshold(float p) {
  const uint32_t rounded = uint32_t(p * 65536.0f + 0.5f);
  return rounded < 65535 ? rounded : 65535;
}
/// 1 / (share of elements kept), for the threshold as rounded.
LIBTRAIN_HOST_DEVICE inline float dropout_scale(float p) { return 65536.0f / float(65536u - dropout_threshold(p)); }

/// 16 random bits for each of eight neighbouring columns (8 * block … 8 * block + 7) of one logical row.
/// A row is (sequence, position) in a stream; streams separate layers and heads. Packed and padded layouts draw the same.
struct DropoutRow {
  uint32_t position, sequence, stream;
};
/// Likewise by twos: the bits of an even column are the lower half of a word.
template <class Multiplier = detail::WideMultiply>
LIBTRAIN_HOST_DEVICE inline std::array<uint32_t, 4> dropout_words(uint64_t key, DropoutRow row, uint32_t block) {
  return philox<7, Multiplier>({block, row.position, row.sequence, row.stream}, uint32_t(key), uint32_t(key >> 32));
}
LIBTRAIN_HOST_DEVICE inline std::array<uint16_t, 8> dropout_bits(uint64_t key, DropoutRow row, uint32_t block) {
  const auto word = dropout_words(key, row, block);
  return {uint16_t(word[0]), uint16_t(word[0] >> 16), uint16_t(word[1]), uint16_t(word[1] >> 16),
          uint16_t(word[2]), uint16_t(word[2] >> 16), uint16_t(word[3]), uint16_t(word[3] >> 16)};
}

}  // namespace libtrain
