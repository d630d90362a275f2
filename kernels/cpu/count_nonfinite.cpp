#include "kernels/count_nonfinite.h"

#include "kernels/cpu/common.h"

namespace libtrain::kernels {

template <Isa isa, class T> void count_nonfinite(Cpu<isa>, const CountNonFinite<T>& k) {
  using A = accum_t<T>;
  const T* values = k.values.data;
  const int64_t size = k.values.dims[0];
  int64_t nan = 0, infinite = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : nan, infinite) if (size > kTeamElements)
  for (int64_t i = 0; i < size; ++i) {
    const A x = A(values[i]);
    nan += x != x;
    infinite += x == x && x - x != 0;
  }
  k.counts.data[0] += nan;
  k.counts.data[1] += infinite;
}

#define INSTANTIATE(T) template void count_nonfinite(Cpu<kIsa>, const CountNonFinite<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
