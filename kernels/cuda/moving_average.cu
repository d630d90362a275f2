// Shapes    average, weights [size]; state, one element.
// Mapping   A thread owns a pack of 16 bytes of each buffer (behind the last full one, or where an address is no multiple of 16, one
//           element) and strides over the grid.
// Traffic   Reads average and weights, writes average: 12 bytes a weight in f32; bound by memory.
// Numerics  The share in f64 and rounded once; the rest in f32 (f64 for f64), as on the CPU up to contraction.
// Source    See kernels/moving_average.h.
// Measured  docs/kernels.md.
#include "kernels/moving_average.h"

#include "kernels/cuda/update.cuh"

namespace libtrain::kernels {
namespace {

/// The average moves towards the weights.
template <class T> __global__ void __launch_bounds__(kBlockThreads)
    average_elements(MovingAverage<T> k, Flat f, const BadIndex* note) {
  if (must_skip(*k.state.data, note)) return;
  const T share = T(1 - average_keeps(k.decay, k.state.data->updates));
  for_elements<T>(f, [&]<int width>(int64_t at) {
    auto average = load_elements<width>(k.average.data + at);
    const auto weights = load_elements<width>(k.weights.data + at);
#pragma unroll
    for (int j = 0; j < width; ++j) average.at[j] += share * (weights.at[j] - average.at[j]);
    store_elements(k.average.data + at, average);
  });
}

}  // namespace

template <class T> void moving_average(Cuda where, const MovingAverage<T>& k) {
  const Flat f = flat(k.average.dims[0], k.average.data, k.weights.data);
  launch(where, "moving_average", flat_shape(f), average_elements<T>, k, f, where.bad_index);
}

template void moving_average(Cuda, const MovingAverage<float>&);
template void moving_average(Cuda, const MovingAverage<double>&);

}  // namespace libtrain::kernels
