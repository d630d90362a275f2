// Shapes    a, y [rows, columns]; b the same, or [1, columns] for all rows.
// Mapping   A thread owns a pack of 16 bytes of y (or, where rows do not divide into packs, one element) and strides over the grid.
// Traffic   Reads a and b, writes y: 3 x size for a residual, 2 x size for a bias; bound by memory.
// Numerics  One addition in f32 (f64 for f64), rounded once.
// Measured  Not yet on a device.
#include "kernels/add.h"

#include "kernels/cuda/common.cuh"

namespace libtrain::kernels {
namespace {

constexpr int kThreads = 256;

/// y = a + b, packs of consecutive elements a thread; b repeats after `period` packs.
template <class T> __global__ void __launch_bounds__(kThreads) add_packs(Add<T> k, int64_t packs, int64_t period) {
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < packs; i += int64_t(gridDim.x) * kThreads) {
    Pack<T> sum = load_pack(k.a.data + i * Pack<T>::kSize);
    const Pack<T> b = load_pack(k.b.data + i % period * Pack<T>::kSize);
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; ++j) sum.at[j] += b.at[j];
    store_pack(k.y.data + i * Pack<T>::kSize, sum);
  }
}

/// y = a + b, one element at a time; b repeats after `period` elements.
template <class T> __global__ void __launch_bounds__(kThreads) add_elements(Add<T> k, int64_t size, int64_t period) {
  using A = accum_t<T>;
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < size; i += int64_t(gridDim.x) * kThreads)
    k.y.data[i] = T(A(k.a.data[i]) + A(k.b.data[i % period]));
}

}  // namespace

template <class T> void add(Cuda where, const Add<T>& k) {
  const int64_t size = k.y.size(), columns = k.y.dims[1], period = k.b.size();
  if (size == 0) return;
  constexpr int kSize = Pack<T>::kSize;
  if (packs_fit(k.a.data, columns) && packs_fit(k.b.data, columns) && packs_fit(k.y.data, columns))
    launch(where, "add", {persistent_blocks(size / kSize, kThreads, 8), kThreads}, add_packs<T>, k, size / kSize,
           period / kSize);
  else
    launch(where, "add", {persistent_blocks(size, kThreads, 8), kThreads}, add_elements<T>, k, size, period);
}

#define INSTANTIATE(T) template void add(Cuda, const Add<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
