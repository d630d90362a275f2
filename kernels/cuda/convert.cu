// Shapes    x, y [size].
// Mapping   A thread owns as many neighbours as fit 16 bytes of the wider type (or one element) and strides over the grid.
// Traffic   Reads x, writes y; bound by memory.
// Numerics  Rounds to nearest even; f64 to bf16 by way of f32, as on the CPU.
// Measured  docs/kernels.md.
#include "kernels/convert.h"

#include <algorithm>

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// y, `width` neighbours a thread.
template <int width, class From, class To> __global__ void __launch_bounds__(kBlockThreads)
    convert_parts(Convert<From, To> k, int64_t parts) {
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < parts; i += stride)
    store_elements(k.y.data + i * width, elements_as<To>(load_elements<width>(k.x.data + i * width)));
}

}  // namespace

template <class From, class To> void convert(Cuda where, const Convert<From, To>& k) {
  constexpr int kMost = std::min(Pack<From>::kSize, Pack<To>::kSize);
  const int64_t size = k.x.size();
  const bool wide = size % kMost == 0 && reinterpret_cast<uintptr_t>(k.x.data) % (kMost * sizeof(From)) == 0 &&
                    reinterpret_cast<uintptr_t>(k.y.data) % (kMost * sizeof(To)) == 0;
  const int64_t parts = wide ? size / kMost : size;
  const LaunchShape shape{persistent_blocks(parts, kBlockThreads, 8), kBlockThreads};
  launch(where, "convert", shape, wide ? convert_parts<kMost, From, To> : convert_parts<1, From, To>, k, parts);
}

#define INSTANTIATE_FOR(From, To) template void convert(Cuda, const Convert<From, To>&);
#define INSTANTIATE(T) INSTANTIATE_FOR(T, float) INSTANTIATE_FOR(T, bf16) INSTANTIATE_FOR(T, double)
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
