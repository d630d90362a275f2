// Shapes    values [size]; counts [2].
// Mapping   A thread owns a pack of 16 bytes (behind the last full one, or where the address is no multiple of 16, one element) and strides
//           over the grid; a block adds its two sums to the counts.
// Traffic   Reads the values once; bound by memory.
// Numerics  Whole numbers, so the order of the blocks does not matter.
// Measured  docs/kernels.md.
#include "kernels/count_nonfinite.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

__device__ inline void add_count(int64_t* to, int count) {
  if (count) atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(count));
}

/// Adds the values that are NaN, and those that are infinite. A thread counts at most 2^31 - 1.
template <class T> __global__ void __launch_bounds__(kBlockThreads) count_elements(CountNonFinite<T> k, Flat f) {
  int nan = 0, infinite = 0;
  for_elements<T>(f, [&]<int width>(int64_t at) {
    const auto values = load_elements<width>(k.values.data + at);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      const auto x = values.at[j];
      nan += x != x;
      infinite += x == x && x - x != 0;
    }
  });
  nan = block_reduce<Sum, kBlockThreads>(nan);
  infinite = block_reduce<Sum, kBlockThreads>(infinite);
  if (threadIdx.x != 0) return;
  add_count(k.counts.data, nan);
  add_count(k.counts.data + 1, infinite);
}

}  // namespace

template <class T> void count_nonfinite(Cuda where, const CountNonFinite<T>& k) {
  const Flat f = flat(k.values.dims[0], k.values.data);
  if (f.size > 0) launch(where, "count_nonfinite", flat_shape(f), count_elements<T>, k, f);
}

#define INSTANTIATE(T) template void count_nonfinite(Cuda, const CountNonFinite<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
