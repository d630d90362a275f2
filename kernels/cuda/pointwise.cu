// Shapes    x, y, dy, dx: `size` elements of any shape.
// Mapping   A thread owns a pack of 16 bytes (behind the last full one, or where an address is no multiple of 16, one element) and strides
//           over the grid.
// Traffic   Forward reads x and writes y: 2 x size. Backward reads x and dy and writes dx: 3 x size (4 x size where it adds).
//           Bound by memory, except erfc in f64.
// Numerics  f32 (f64 for f64) throughout, rounded once; functions of CUDA's library, kernels/cuda/math.cuh.
// Source    The formulas, with their papers: kernels/pointwise.h.
// Measured  docs/kernels.md.
#include "kernels/pointwise.h"

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/math.cuh"

namespace libtrain::kernels {
namespace {

/// y = f(x), a pack or an element at a time.
template <class F, class T> __global__ void __launch_bounds__(kBlockThreads, 2) forward_kernel(Pointwise<T> k, Flat f) {
  for_elements<T>(f, [&]<int width>(int64_t at) {
    auto x = load_elements<width>(k.x.data + at);
#pragma unroll
    for (int j = 0; j < width; ++j) x.at[j] = F::template forward<CudaMath>(x.at[j]);
    store_elements(k.y.data + at, x);
  });
}

/// dx (+)= dy * f'(x), a pack or an element at a time; dx may be x.
template <class F, class T> __global__ void __launch_bounds__(kBlockThreads, 2)
    backward_kernel(PointwiseGradient<T> k, Flat f) {
  for_elements<T>(f, [&]<int width>(int64_t at) {
    auto x = load_elements<width>(k.x.data + at);
    const auto dy = load_elements<width>(k.dy.data + at);
#pragma unroll
    for (int j = 0; j < width; ++j) x.at[j] = F::template backward<CudaMath>(x.at[j], dy.at[j]);
    put_elements(k.dx.data + at, x, k.dx.accumulate);
  });
}

}  // namespace

template <class F, class T> void pointwise_forward(Cuda where, const Pointwise<T>& k) {
  const Flat f = flat(k.x.size(), k.x.data, k.y.data);
  launch(where, "pointwise_forward", flat_shape(f), forward_kernel<F, T>, k, f);
}

template <class F, class T> void pointwise_backward(Cuda where, const PointwiseGradient<T>& k) {
  const Flat f = flat(k.x.size(), k.x.data, k.dy.data, k.dx.data);
  launch(where, "pointwise_backward", flat_shape(f), backward_kernel<F, T>, k, f);
}

#define INSTANTIATE_FOR(F, T)                                    \
  template void pointwise_forward<F>(Cuda, const Pointwise<T>&); \
  template void pointwise_backward<F>(Cuda, const PointwiseGradient<T>&);
#define INSTANTIATE(F) INSTANTIATE_FOR(F, float) INSTANTIATE_FOR(F, bf16) INSTANTIATE_FOR(F, double)
LIBTRAIN_POINTWISE(INSTANTIATE)

}  // namespace libtrain::kernels
