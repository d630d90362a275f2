#include "kernels/convert.h"

#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {
namespace {

template <class From, class To> void convert_chunk(const From* x, int64_t begin, int64_t end, To* y) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) y[i] = To(accum_t<To>(accum_t<From>(x[i])));
}

}  // namespace

template <Isa isa, class From, class To> void convert(Cpu<isa>, const Convert<From, To>& k) {
  for_chunks(k.x.size(), [&](int64_t begin, int64_t end) { convert_chunk(k.x.data, begin, end, k.y.data); });
}

#define INSTANTIATE_FOR(From, To) template void convert(Cpu<kIsa>, const Convert<From, To>&);
#define INSTANTIATE(T) INSTANTIATE_FOR(T, float) INSTANTIATE_FOR(T, bf16) INSTANTIATE_FOR(T, double)
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
