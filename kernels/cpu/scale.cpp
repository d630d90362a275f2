#include "kernels/scale.h"

#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {
namespace {

template <class T> void scale_chunk(const T* x, accum_t<T> factor, int64_t begin, int64_t end, Sink<T> y) {
  using A = accum_t<T>;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) put(y.data[i], A(x[i]) * factor, y.accumulate);
}

}  // namespace

template <Isa isa, class T> void scale(Cpu<isa>, const Scale<T>& k) {
  const auto factor = accum_t<T>(k.factor);
  for_chunks(k.x.size(), [&](int64_t begin, int64_t end) { scale_chunk(k.x.data, factor, begin, end, k.y); });
}

#define INSTANTIATE(T) template void scale(Cpu<kIsa>, const Scale<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
