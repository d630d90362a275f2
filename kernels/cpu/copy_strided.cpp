#include "kernels/copy_strided.h"

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// `count` neighbours of y. A loop for unit stride of its own, which vectorises.
template <class T> void copy_run(const T* x, int64_t stride, int64_t count, Sink<T> y) {
  using A = accum_t<T>;
  if (stride == 1)
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) put(y.data[i], A(x[i]), y.accumulate);
  else
    for (int64_t i = 0; i < count; ++i) put(y.data[i], A(x[i * stride]), y.accumulate);
}

}  // namespace

template <Isa isa, class T> void copy_strided(Cpu<isa>, const CopyStrided<T>& k) {
  const int64_t size0 = k.sizes[0], size1 = k.sizes[1], size2 = k.sizes[2], run = k.sizes[3];
  const int64_t runs = size0 * size1 * size2, inner = size1 * size2;
#pragma omp parallel for schedule(static) if (runs * run > kTeamElements)
  for (int64_t r = 0; r < runs; ++r) {
    const int64_t at[] = {r / inner, r / size2 % size1, r % size2};
    int64_t x = 0, y = 0;
    for (unsigned d = 0; d < 3; ++d) x += at[d] * k.x_strides[d], y += at[d] * k.y_strides[d];
    copy_run(k.x + x, k.x_strides[3], run, Sink<T>{k.y.data + y, k.y.accumulate});
  }
}

#define INSTANTIATE(T) template void copy_strided(Cpu<kIsa>, const CopyStrided<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
