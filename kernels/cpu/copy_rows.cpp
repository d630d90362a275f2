#include "kernels/copy_rows.h"

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

template <class T> void copy_row(const T* x, int64_t columns, Sink<T> y) {
  using A = accum_t<T>;
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) put(y.data[c], A(x[c]), y.accumulate);
}

/// No row arrives here: an overwrite defines it as zero, an addition leaves it.
template <class T> void no_row(int64_t columns, Sink<T> y) {
  if (y.accumulate) return;
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) y.data[c] = T(0);
}

}  // namespace

template <Isa isa, class T> void copy_rows(Cpu<isa>, const CopyRows<T>& k) {
  const int64_t x_rows = k.x.dims[0], columns = k.x.dims[1];
#pragma omp parallel for schedule(static) if (k.y_rows * columns > kTeamElements)
  for (int64_t row = 0; row < k.y_rows; ++row) {
    const int64_t source = k.index ? int64_t(k.index.data[row]) : row - k.offset;
    const Sink<T> y{k.y.data + row * columns, k.y.accumulate};
    if (source >= 0 && source < x_rows)
      copy_row(k.x.data + source * columns, columns, y);
    else
      no_row(columns, y);
  }
}

template <Isa isa> void invert_index(Cpu<isa>, const InvertIndex& k) {
  for (int64_t s = 0; s < k.inverse.size(); ++s) k.inverse.data[s] = -1;
  for (int64_t r = 0; r < k.index.size(); ++r)
    if (k.index.data[r] >= 0 && k.index.data[r] < k.inverse.size()) k.inverse.data[k.index.data[r]] = int32_t(r);
}

#define INSTANTIATE(T) template void copy_rows(Cpu<kIsa>, const CopyRows<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)
template void invert_index(Cpu<kIsa>, const InvertIndex&);

}  // namespace libtrain::kernels
