// Shapes    x, y: `size` elements of any shape.
// Mapping   A thread owns a pack of 16 bytes (behind the last full one, or where an address is no multiple of 16, one element) and strides
//           over the grid.
// Traffic   Reads x, writes y (and reads it first where it is added to): 2 x size or 3 x size; bound by memory. 1 * x in the place of x: none.
// Numerics  A product and a sum in f32 (f64 for f64), rounded once to the dtype.
// Measured  docs/kernels.md.
#include "kernels/scale.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// y (+)= factor * by * x + offset, a pack or an element at a time; y may be x.
template <class T> __global__ void __launch_bounds__(kBlockThreads) scale_kernel(Scale<T> k, Flat f) {
  const accum_t<T> factor = accum_t<T>(k.factor) * (k.by.data ? *k.by.data : accum_t<T>(1)),
                   offset = accum_t<T>(k.offset);
  if (k.changes_nothing(factor)) return;
  for_elements<T>(f, [&]<int width>(int64_t at) {
    auto x = load_elements<width>(k.x.data + at);
#pragma unroll
    for (int j = 0; j < width; ++j) x.at[j] = x.at[j] * factor + offset;
    put_elements(k.y.data + at, x, k.y.accumulate);
  });
}

}  // namespace

template <class T> void scale(Cuda where, const Scale<T>& k) {
  const Flat f = flat(k.x.size(), k.x.data, k.y.data);
  launch(where, "scale", flat_shape(f), scale_kernel<T>, k, f);
}

#define INSTANTIATE(T) template void scale(Cuda, const Scale<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
