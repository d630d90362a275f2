// Shapes    x, y, dy, dx: any, of one size.
// Mapping   A thread owns a pack of 16 bytes (behind the last full one, or where an address is no multiple of 16, one element) and strides
//           over the grid.
// Traffic   Forward reads x and writes y; backward reads x and dy and writes dx. Bound by memory.
// Numerics  In f32 (f64 for f64), rounded once.
#include "kernels/cuda/elements.cuh"
#include "snake_kernel.h"

namespace own {
namespace {

using namespace libtrain;
using namespace libtrain::kernels;

__device__ inline float sine(float x) { return sinf(x); }
__device__ inline double sine(double x) { return sin(x); }

/// y, a pack or an element at a time.
template <class T> __global__ void __launch_bounds__(kBlockThreads) forward_kernel(Snake<T> k, Flat f) {
  using A = accum_t<T>;
  const A a = A(k.a);
  for_elements<T>(f, [&]<int width>(int64_t at) {
    auto x = load_elements<width>(k.x.data + at);
    for (int j = 0; j < width; ++j) {
      const A s = sine(a * x.at[j]);
      x.at[j] += s * s / a;
    }
    store_elements(k.y.data + at, x);
  });
}

/// dx, likewise.
template <class T> __global__ void __launch_bounds__(kBlockThreads) backward_kernel(SnakeGradient<T> k, Flat f) {
  using A = accum_t<T>;
  const A a = A(k.a);
  for_elements<T>(f, [&]<int width>(int64_t at) {
    const auto x = load_elements<width>(k.x.data + at);
    auto dx = load_elements<width>(k.dy.data + at);
    for (int j = 0; j < width; ++j) dx.at[j] *= 1 + sine(2 * a * x.at[j]);
    put_elements(k.dx.data + at, dx, k.dx.accumulate);
  });
}

}  // namespace

template <class T> void snake_forward(Cuda where, const Snake<T>& k) {
  const Flat f = flat(k.x.size(), k.x.data, k.y.data);
  launch(where, "snake_forward", flat_shape(f), forward_kernel<T>, k, f);
}

template <class T> void snake_backward(Cuda where, const SnakeGradient<T>& k) {
  const Flat f = flat(k.x.size(), k.x.data, k.dy.data, k.dx.data);
  launch(where, "snake_backward", flat_shape(f), backward_kernel<T>, k, f);
}

template void snake_forward(Cuda, const Snake<float>&);
template void snake_forward(Cuda, const Snake<bf16>&);
template void snake_forward(Cuda, const Snake<double>&);
template void snake_backward(Cuda, const SnakeGradient<float>&);
template void snake_backward(Cuda, const SnakeGradient<bf16>&);
template void snake_backward(Cuda, const SnakeGradient<double>&);

}  // namespace own
