#include "kernels/broadcast.h"

#include "kernels/cpu/math.h"
#include "kernels/cpu/operands.h"

namespace libtrain::kernels {
namespace {

/// Neighbours of y, whose arguments follow with stride 1 or stay: a loop for each choice, and each vectorises.
template <class F, int a_stride, int b_stride, bool accumulate, class T, class Out>
void apply(const T* a, const T* b, const T* dy, int64_t count, Out* y) {
  using A = accum_t<T>;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i)
    put(y[i], F::template apply<CpuMath>(A(a[i * a_stride]), A(b[i * b_stride]), F::kInputs > 2 ? A(dy[i]) : A(0)),
        accumulate);
}

template <class F, bool accumulate, class T, class Out>
void apply_run(const T* a, int64_t a_stride, const T* b, int64_t b_stride, const T* dy, int64_t count, Out* y) {
  if (a_stride)
    b_stride ? apply<F, 1, 1, accumulate>(a, b, dy, count, y) : apply<F, 1, 0, accumulate>(a, b, dy, count, y);
  else
    b_stride ? apply<F, 0, 1, accumulate>(a, b, dy, count, y) : apply<F, 0, 0, accumulate>(a, b, dy, count, y);
}

}  // namespace

template <class F, Isa isa, class T, class Out> void broadcast(Cpu<isa>, const Broadcast<T, Out>& k) {
  for_neighbours(k.sizes, [&](const Neighbours& part) {
    const T* in[3];
    for (unsigned j = 0; j < 3; ++j) in[j] = k.in[j].data ? first_of(part, k.in[j]) : nullptr;
    const int64_t a_stride = k.in[0].strides[3], b_stride = k.in[1].strides[3];
    Out* y = k.y.data + part.first;
    k.y.accumulate ? apply_run<F, true>(in[0], a_stride, in[1], b_stride, in[2], part.count, y)
                   : apply_run<F, false>(in[0], a_stride, in[1], b_stride, in[2], part.count, y);
  });
}

#define INSTANTIATE_FOR(F, T, Out) template void broadcast<F>(Cpu<kIsa>, const Broadcast<T, Out>&);
#define INSTANTIATE(F)             \
  INSTANTIATE_FOR(F, float, float) \
  INSTANTIATE_FOR(F, bf16, bf16) INSTANTIATE_FOR(F, bf16, float) INSTANTIATE_FOR(F, double, double)
LIBTRAIN_BROADCAST(INSTANTIATE)

}  // namespace libtrain::kernels
