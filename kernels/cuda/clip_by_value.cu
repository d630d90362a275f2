// Shapes    gradients [size]; state, one element.
// Mapping   A thread owns a pack of 16 bytes (behind the last full one, or where the address is no multiple of 16, one element) and strides
//           over the grid.
// Traffic   Reads and writes the gradients: 8 bytes a weight in f32; bound by memory.
// Numerics  The limit in f64 and rounded once; as on the CPU.
// Measured  docs/kernels.md.
#include "kernels/clip_by_value.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// The gradients within the limit, in place.
template <class T> __global__ void __launch_bounds__(kBlockThreads) clip_elements(ClipByValue<T> k, Flat f) {
  const T limit = T(k.max_value * double(k.state.data->loss_count));
  for_elements<T>(f, [&]<int width>(int64_t at) {
    auto g = load_elements<width>(k.gradients.data + at);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      const T x = g.at[j], limited = x > limit ? limit : x < -limit ? -limit : x;
      g.at[j] = x - x == 0 ? limited : x;
    }
    store_elements(k.gradients.data + at, g);
  });
}

}  // namespace

template <class T> void clip_by_value(Cuda where, const ClipByValue<T>& k) {
  const Flat f = flat(k.gradients.dims[0], k.gradients.data);
  launch(where, "clip_by_value", flat_shape(f), clip_elements<T>, k, f);
}

template void clip_by_value(Cuda, const ClipByValue<float>&);
template void clip_by_value(Cuda, const ClipByValue<double>&);

}  // namespace libtrain::kernels
