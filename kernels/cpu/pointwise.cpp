#include "kernels/pointwise.h"

#include "kernels/cpu/chunks.h"
#include "kernels/cpu/math.h"

namespace libtrain::kernels {
namespace {

template <class F, class T> void forward_chunk(const T* x, int64_t begin, int64_t end, T* y) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) put(y[i], F::template forward<CpuMath>(accum_t<T>(x[i])), false);
}

/// A loop for each value of `accumulate`: with the choice inside, the compiler leaves long formulas scalar.
template <bool accumulate, class F, class T>
void backward_chunk(const PointwiseGradient<T>& k, int64_t begin, int64_t end) {
  using A = accum_t<T>;
  const T *x = k.x.data, *dy = k.dy.data;
  T* dx = k.dx.data;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) put(dx[i], F::template backward<CpuMath>(A(x[i]), A(dy[i])), accumulate);
}

}  // namespace

template <class F, Isa isa, class T> void pointwise_forward(Cpu<isa>, const Pointwise<T>& k) {
  for_chunks(k.x.size(), [&](int64_t begin, int64_t end) { forward_chunk<F>(k.x.data, begin, end, k.y.data); });
}

template <class F, Isa isa, class T> void pointwise_backward(Cpu<isa>, const PointwiseGradient<T>& k) {
  for_chunks(k.x.size(), [&](int64_t begin, int64_t end) {
    k.dx.accumulate ? backward_chunk<true, F>(k, begin, end) : backward_chunk<false, F>(k, begin, end);
  });
}

#define INSTANTIATE_FOR(F, T)                                         \
  template void pointwise_forward<F>(Cpu<kIsa>, const Pointwise<T>&); \
  template void pointwise_backward<F>(Cpu<kIsa>, const PointwiseGradient<T>&);
#define INSTANTIATE(F) INSTANTIATE_FOR(F, float) INSTANTIATE_FOR(F, bf16) INSTANTIATE_FOR(F, double)
LIBTRAIN_POINTWISE(INSTANTIATE)

}  // namespace libtrain::kernels
