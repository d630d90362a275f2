#include "kernels/broadcast.h"

#include "kernels/cpu/chunks.h"
#include "kernels/cpu/math.h"

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

/// Runs of the last dimension are cut into chunks; a chunk is one thread's.
template <class F, Isa isa, class T, class Out> void broadcast(Cpu<isa>, const Broadcast<T, Out>& k) {
  const int64_t size1 = k.sizes[1], size2 = k.sizes[2], run = k.sizes[3], runs = k.sizes[0] * size1 * size2,
                chunks = (run + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) if (runs * run > kTeamElements)
  for (int64_t i = 0; i < runs * chunks; ++i) {
    const int64_t r = i / chunks, begin = i % chunks * kChunk, left = run - begin,
                  count = left < kChunk ? left : kChunk;
    const std::array<int64_t, 4> at{r / (size1 * size2), r / size2 % size1, r % size2, begin};
    const T* in[3];
    for (unsigned j = 0; j < 3; ++j) {
      in[j] = k.in[j].data;
      for (unsigned d = 0; in[j] && d < 4; ++d) in[j] += at[d] * k.in[j].strides[d];
    }
    const int64_t a_stride = k.in[0].strides[3], b_stride = k.in[1].strides[3];
    Out* y = k.y.data + r * run + begin;
    k.y.accumulate ? apply_run<F, true>(in[0], a_stride, in[1], b_stride, in[2], count, y)
                   : apply_run<F, false>(in[0], a_stride, in[1], b_stride, in[2], count, y);
  }
}

#define INSTANTIATE_FOR(F, T, Out) template void broadcast<F>(Cpu<kIsa>, const Broadcast<T, Out>&);
#define INSTANTIATE(F)             \
  INSTANTIATE_FOR(F, float, float) \
  INSTANTIATE_FOR(F, bf16, bf16) INSTANTIATE_FOR(F, bf16, float) INSTANTIATE_FOR(F, double, double)
LIBTRAIN_BROADCAST(INSTANTIATE)

}  // namespace libtrain::kernels
