#include "kernels/scale.h"

#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {
namespace {

template <class T> void scale_chunk(const Scale<T>& k, int64_t begin, int64_t end) {
  using A = accum_t<T>;
  const A factor = A(k.factor) * (k.by ? *k.by.data : A(1)), offset = A(k.offset);
  const T* x = k.x.data;
  T* y = k.y.data;
  const bool accumulate = k.y.accumulate;
  if (k.changes_nothing(factor)) return;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) put(y[i], A(x[i]) * factor + offset, accumulate);
}

}  // namespace

template <Isa isa, class T> void scale(Cpu<isa>, const Scale<T>& k) {
  for_chunks(k.x.size(), [&](int64_t begin, int64_t end) { scale_chunk(k, begin, end); });
}

#define INSTANTIATE(T) template void scale(Cpu<kIsa>, const Scale<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
