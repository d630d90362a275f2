#include "kernels/select.h"

#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {
namespace {

template <class T> struct Run {
  const int32_t* mask;
  const T *a, *b;  // elements or, where they are not given, one number
  int64_t mask_stride, a_stride, b_stride;
};

/// Neighbours of y. A loop for each stride of the mask, and for arguments that follow: the others are not common.
template <bool accumulate, class T> void select_run(const Run<T>& r, int64_t count, T* y) {
  using A = accum_t<T>;
  if (r.mask_stride && r.a_stride && r.b_stride)
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) put(y[i], r.mask[i] ? A(r.a[i]) : A(r.b[i]), accumulate);
  else if (r.mask_stride && r.a_stride)
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) put(y[i], r.mask[i] ? A(r.a[i]) : A(r.b[0]), accumulate);
  else if (r.mask_stride && r.b_stride)
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) put(y[i], r.mask[i] ? A(r.a[0]) : A(r.b[i]), accumulate);
  else
    for (int64_t i = 0; i < count; ++i)
      put(y[i], r.mask[i * r.mask_stride] ? A(r.a[i * r.a_stride]) : A(r.b[i * r.b_stride]), accumulate);
}

template <class T> const T* at_place(const Operand<T>& in, const std::array<int64_t, 4>& at) {
  const T* data = in.data;
  for (unsigned d = 0; d < 4; ++d) data += at[d] * in.strides[d];
  return data;
}

}  // namespace

/// Runs of the last dimension are cut into chunks; a chunk is one thread's.
template <Isa isa, class T> void select(Cpu<isa>, const Select<T>& k) {
  const T number = T(accum_t<T>(k.number));
  std::array<Operand<T>, 2> in = k.in;
  for (Operand<T>& operand : in)
    if (!operand.data) operand = {&number, {0, 0, 0, 0}};
  const int64_t size1 = k.sizes[1], size2 = k.sizes[2], run = k.sizes[3], runs = k.sizes[0] * size1 * size2,
                chunks = (run + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) if (runs * run > kTeamElements)
  for (int64_t i = 0; i < runs * chunks; ++i) {
    const int64_t r = i / chunks, begin = i % chunks * kChunk, left = run - begin,
                  count = left < kChunk ? left : kChunk;
    const std::array<int64_t, 4> at{r / (size1 * size2), r / size2 % size1, r % size2, begin};
    const Run<T> part{at_place(k.mask, at), at_place(in[0], at), at_place(in[1], at),
                      k.mask.strides[3],    in[0].strides[3],    in[1].strides[3]};
    T* y = k.y.data + r * run + begin;
    k.y.accumulate ? select_run<true>(part, count, y) : select_run<false>(part, count, y);
  }
}

#define INSTANTIATE(T) template void select(Cpu<kIsa>, const Select<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
