#include "kernels/add.h"

#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {
namespace {

template <class T> void add_range(const T* a, const T* b, int64_t count, T* y) {
  using A = accum_t<T>;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) put(y[i], A(a[i]) + A(b[i]), false);
}

/// The row b added to each row of a.
template <class T> void add_row(const Add<T>& k) {
  const int64_t rows = k.a.dims[0], columns = k.a.dims[1];
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row)
    add_range(k.a.data + row * columns, k.b.data, columns, k.y.data + row * columns);
}

}  // namespace

template <Isa isa, class T> void add(Cpu<isa>, const Add<T>& k) {
  if (k.b.dims[0] != k.a.dims[0]) return add_row(k);
  for_chunks(k.a.size(), [&](int64_t begin, int64_t end) {
    add_range(k.a.data + begin, k.b.data + begin, end - begin, k.y.data + begin);
  });
}

#define INSTANTIATE(T) template void add(Cpu<kIsa>, const Add<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
