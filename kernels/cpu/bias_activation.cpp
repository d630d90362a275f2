#include "kernels/bias_activation.h"

#include "kernels/cpu/dropout_bits.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/row_blocks.h"

namespace libtrain::kernels {
namespace {

/// Asks for what a walk over a matrix meets a page further on: where a page begins, the processor's own looking ahead ends.
template <class T> LIBTRAIN_INLINE void expect_page_after(const T* data, int64_t count) {
  for (int64_t i = 0; i < count; i += kLine<T>) __builtin_prefetch(data + 4096 / int64_t(sizeof(T)) + i);
}

template <class F, class T>
void row_forward(const BiasActivation<T>& k, const Dropper<accum_t<T>>& dropper, int64_t row) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1];
  const T *x = k.x.data + row * columns, *bias = k.bias.data;
  T* y = k.y.data + row * columns;
  dropper.for_chunks_of(row, columns, [&](int64_t first, int64_t count, const uint16_t* bits) {
    expect_page_after(x + first, count);
    expect_page_after(y + first, count);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i)
      put(y[first + i], dropper.drop(F::template forward<CpuMath>(A(x[first + i]) + A(bias[first + i])), bits[i]),
          false);
  });
}

/// Gradients of a row's elements → dx. Not part of what is made for each formula, so that it is compiled once for each type.
template <class T> void put_gradients(const accum_t<T>* d, int64_t count, T* dx, bool accumulate) {
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) put(dx[i], d[i], true);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) put(dx[i], d[i], false);
  }
}

/// dx of one row, added to the partial sums of dbias too.
template <class F, class T> void row_backward(const BiasActivation<T>& k, const Dropper<accum_t<T>>& dropper,
                                              const T* all_dy, int64_t row, const BiasActivationGradients<T>& g,
                                              accum_t<T>* dbias) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1], at = row * columns;
  const T none[kDropoutChunk] = {}, *x = k.x.data + at, *dy = all_dy + at;
  dropper.for_chunks_of(row, columns, [&](int64_t first, int64_t count, const uint16_t* bits) {
    A d[kDropoutChunk];
    expect_page_after(x + first, count);
    expect_page_after(dy + first, count);
    if (g.dx) expect_page_after(g.dx.data + at + first, count);
    const T* bias = k.bias ? k.bias.data + first : none;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const A dz = dropper.drop(A(dy[first + i]), bits[i]);
      d[i] = F::template backward<CpuMath>(A(x[first + i]) + A(bias[i]), dz);
      dbias[first + i] += d[i];
    }
    if (g.dx) put_gradients(d, count, g.dx.data + at + first, g.dx.accumulate);
  });
}

}  // namespace

template <class F, Isa isa, class T> void bias_activation_forward(Cpu<isa>, const BiasActivation<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const Dropper<accum_t<T>> dropper{k.mask};
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row) row_forward<F>(k, dropper, row);
}

template <class F, Isa isa, class T> void bias_activation_backward(Cpu<isa> device, const BiasActivation<T>& k,
                                                                   View<const T> dy,
                                                                   const BiasActivationGradients<T>& g) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  Dropper<A> dropper{k.mask};
  dropper.scale *= A(g.scale);
  const int64_t blocks = bias_activation_blocks(device, rows, columns);
  for_row_blocks(rows, columns, blocks, 1, g.workspace.data,
                 [&](int64_t row, A* dbias) { row_backward<F>(k, dropper, dy.data, row, g, dbias); });
  sum_blocks(g.workspace.data, blocks, 1, columns, g.dbias);
}

#define INSTANTIATE_FOR(F, T)                                                                   \
  template void bias_activation_forward<F>(Cpu<kIsa>, const BiasActivation<T>&);                \
  template void bias_activation_backward<F>(Cpu<kIsa>, const BiasActivation<T>&, View<const T>, \
                                            const BiasActivationGradients<T>&);
#define INSTANTIATE(F) INSTANTIATE_FOR(F, float) INSTANTIATE_FOR(F, bf16) INSTANTIATE_FOR(F, double)
LIBTRAIN_POINTWISE(INSTANTIATE)

}  // namespace libtrain::kernels
