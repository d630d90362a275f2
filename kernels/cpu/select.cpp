#include "kernels/select.h"

#include "kernels/cpu/operands.h"

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

}  // namespace

template <Isa isa, class T> void select(Cpu<isa>, const Select<T>& k) {
  const T number = T(accum_t<T>(k.number));
  std::array<Operand<T>, 2> in = k.in;
  for (Operand<T>& operand : in)
    if (!operand.data) operand = {&number, {0, 0, 0, 0}};
  for_neighbours(k.sizes, [&](const Neighbours& part) {
    const Run<T> run{first_of(part, k.mask), first_of(part, in[0]), first_of(part, in[1]),
                     k.mask.strides[3],      in[0].strides[3],      in[1].strides[3]};
    T* y = k.y.data + part.first;
    k.y.accumulate ? select_run<true>(run, part.count, y) : select_run<false>(run, part.count, y);
  });
}

#define INSTANTIATE(T) template void select(Cpu<kIsa>, const Select<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
