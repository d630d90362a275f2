#include "kernels/dropout.h"

#include "kernels/cpu/dropout_bits.h"

namespace libtrain::kernels {
namespace {

/// y = base + (kept ? x * scale : 0) for row `row`; without `base` (which may be y itself) that term is missing.
template <class T>
void drop_row(const Dropper<accum_t<T>>& dropper, int64_t row, int64_t columns, const T* x, const T* base, T* y) {
  using A = accum_t<T>;
  dropper.for_chunks_of(row, columns, [&](int64_t first, int64_t count, const uint16_t* bits) {
    if (base)
#pragma omp simd
      for (int64_t i = 0; i < count; ++i)
        put(y[first + i], A(base[first + i]) + dropper.drop(A(x[first + i]), bits[i]), false);
    else
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) put(y[first + i], dropper.drop(A(x[first + i]), bits[i]), false);
  });
}

/// Passes the gradient of one row on as it is.
template <class T> void pass_row(const T* dy, int64_t columns, Sink<T> dx) {
  using A = accum_t<T>;
#pragma omp simd
  for (int64_t c = 0; c < columns; ++c) put(dx.data[c], A(dy[c]), dx.accumulate);
}

}  // namespace

template <Isa isa, class T> void dropout_forward(Cpu<isa>, const Dropout<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const Dropper<accum_t<T>> dropper{k.mask};
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * columns;
    const T* residual = k.residual ? k.residual.data + at : nullptr;
    drop_row(dropper, row, columns, k.x.data + at, residual, k.y.data + at);
  }
}

template <Isa isa, class T>
void dropout_backward(Cpu<isa>, const Dropout<T>& k, View<const T> dy, const DropoutGradients<T>& g) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const Dropper<accum_t<T>> dropper{k.mask};
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * columns;
    if (g.dx) {
      T* dx = g.dx.data + at;
      drop_row(dropper, row, columns, dy.data + at, g.dx.accumulate ? dx : nullptr, dx);
    }
    if (g.dresidual) pass_row(dy.data + at, columns, Sink<T>{g.dresidual.data + at, g.dresidual.accumulate});
  }
}

#define INSTANTIATE(T)                                         \
  template void dropout_forward(Cpu<kIsa>, const Dropout<T>&); \
  template void dropout_backward(Cpu<kIsa>, const Dropout<T>&, View<const T>, const DropoutGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
