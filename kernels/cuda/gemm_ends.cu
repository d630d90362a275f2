// Shapes    c [count, m, n], products batch.c elements apart; bias [count, n], batch.bias elements apart (0: one for all).
// Mapping   A thread strides over the elements of all products.
// Traffic   Writes c once, and reads it where it is added to or activated; bound by memory. Shapes that cuBLASLt knows never come here.
// Numerics  In accum_t<In>; rounded to Out once, so that a product that is added to the bias afterwards is rounded twice.
// Measured  Not timed.
#include "kernels/cuda/gemm_ends.h"

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/pointwise.h"

namespace libtrain::kernels {
namespace {

constexpr int kThreads = 256;

/// `size` elements, of which each product has `each`; n are a row of c.
struct Results {
  int64_t size, each, n;
};

template <class In, class Out> Results results_of(const Gemm<In, Out>& g) {
  return {g.m() * g.n() * g.batch.count, g.m() * g.n(), g.n()};
}

LaunchShape shape_of(const Results& r) { return {persistent_blocks(r.size, kThreads, 8), kThreads}; }

/// c (+)= bias, or zero without one.
template <class In, class Out> __global__ void __launch_bounds__(kThreads)
    start_kernel(const In* bias, int64_t bias_stride, Sink<Out> c, int64_t stride, Results r) {
  using A = accum_t<In>;
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < r.size; i += int64_t(gridDim.x) * kThreads) {
    const int64_t product = i / r.each, at = i % r.each;
    put(c.data[product * stride + at], bias ? A(bias[product * bias_stride + at % r.n]) : A(0), c.accumulate);
  }
}

/// c = f(c).
template <class A, class Out> __global__ void __launch_bounds__(kThreads)
    activate_kernel(GemmActivation activation, Out* c, int64_t stride, Results r) {
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < r.size; i += int64_t(gridDim.x) * kThreads) {
    Out& place = c[i / r.each * stride + i % r.each];
    const A x = A(place);
    place = Out(activation == GemmActivation::kRelu ? Relu::forward<CudaMath>(x) : GeluTanh::forward<CudaMath>(x));
  }
}

}  // namespace

template <class In, class Out> void start_products(Cuda where, const Gemm<In, Out>& g) {
  const Results r = results_of(g);
  launch(where, "gemm_start", shape_of(r), start_kernel<In, Out>, g.bias.data, g.batch.bias, g.c, g.batch.c, r);
}

template <class In, class Out> void activate_products(Cuda where, const Gemm<In, Out>& g) {
  if (g.activation == GemmActivation::kNone) return;
  const Results r = results_of(g);
  launch(where, "gemm_activate", shape_of(r), activate_kernel<accum_t<In>, Out>, g.activation, g.c.data, g.batch.c, r);
}

#define INSTANTIATE(In, Out)                                    \
  template void start_products(Cuda, const Gemm<In, Out>&);     \
  template void activate_products(Cuda, const Gemm<In, Out>&);
INSTANTIATE(float, float)
INSTANTIATE(double, double)
INSTANTIATE(bf16, bf16)
INSTANTIATE(bf16, float)

}  // namespace libtrain::kernels
