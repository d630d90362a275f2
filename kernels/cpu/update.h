/// What the optimizers on the CPU share: flat buffers in pieces of equal factors.
#pragma once
#include "kernels/cpu/chunks.h"
#include "kernels/update_factors.h"

namespace libtrain::kernels {
namespace {

/// Calls work(begin, end, factors) for pieces that cover the weights which are to be updated, in parallel when there are several.
template <class F> LIBTRAIN_INLINE void for_updates(int64_t size, const UpdateFactors* table, const F& work) {
  static_assert(kChunk % kUpdateUnit == 0);
  for_chunks(size, [&](int64_t begin, int64_t end) {
    if (!table) return work(begin, end, UpdateFactors{});
    for (int64_t i = begin; i < end; i += kUpdateUnit) {
      const UpdateFactors factors = table[i / kUpdateUnit];
      if (factors.rate != 0) work(i, i + kUpdateUnit < end ? i + kUpdateUnit : end, factors);
    }
  });
}

}  // namespace
}  // namespace libtrain::kernels
