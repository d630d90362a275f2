/// Elementwise work in pieces whose borders follow from the number of elements alone, never from the number of threads.
#pragma once
#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

constexpr int64_t kChunk = 4096;

/// Calls work(begin, end) for each piece of `count` elements, in parallel when there are several.
template <class F> LIBTRAIN_INLINE void for_chunks(int64_t count, const F& work) {
  const int64_t chunks = (count + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) if (chunks > 4)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = chunk * kChunk, left = count - begin;
    work(begin, begin + (left < kChunk ? left : kChunk));
  }
}

}  // namespace
}  // namespace libtrain::kernels
