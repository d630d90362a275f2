/// Walks over a contiguous result whose operands lie in strides of their own (kernels/broadcast.h).
#pragma once
#include "kernels/broadcast.h"
#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {
namespace {

/// Neighbours of the result, in its last dimension.
struct Neighbours {
  std::array<int64_t, 4> at;  // the first of them
  int64_t first, count;       // as elements of the result
};

/// Where an operand has the first of them.
template <class T> LIBTRAIN_INLINE const T* first_of(const Neighbours& part, const Operand<T>& in) {
  const T* data = in.data;
  for (unsigned d = 0; d < 4; ++d) data += part.at[d] * in.strides[d];
  return data;
}

/// Calls work(neighbours) for a result of these sizes: runs of the last dimension are cut into chunks, a chunk is one thread's.
template <class F> LIBTRAIN_INLINE void for_neighbours(const std::array<int64_t, 4>& sizes, const F& work) {
  const int64_t size1 = sizes[1], size2 = sizes[2], run = sizes[3], runs = sizes[0] * size1 * size2,
                chunks = (run + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) if (runs * run > kTeamElements)
  for (int64_t i = 0; i < runs * chunks; ++i) {
    const int64_t r = i / chunks, begin = i % chunks * kChunk, left = run - begin;
    work(Neighbours{
        {r / (size1 * size2), r / size2 % size1, r % size2, begin}, r * run + begin, left < kChunk ? left : kChunk});
  }
}

}  // namespace
}  // namespace libtrain::kernels
