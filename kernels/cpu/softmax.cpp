#include "kernels/softmax.h"

#include "kernels/cpu/exp.h"
#include "kernels/cpu/reductions.h"

namespace libtrain::kernels {
namespace {

template <class T> accum_t<T> sum_of_exp(const T* x, accum_t<T> most, int64_t columns) {
  using A = accum_t<T>;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < columns; ++c) sum += vexp(A(x[c]) - most);
  return sum;
}

template <class T> void row_forward(const T* x, int64_t columns, bool log, T* y) {
  using A = accum_t<T>;
  const A most = largest_of(x, columns), sum = sum_of_exp(x, most, columns), log_sum = std::log(sum);
  if (log)
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) y[c] = T(A(x[c]) - most - log_sum);
  else
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) y[c] = T(vexp(A(x[c]) - most) / sum);
}

template <class T> void row_backward(const T* y, const T* dy, int64_t columns, bool log, Sink<T> dx) {
  using A = accum_t<T>;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < columns; ++c) sum += log ? A(dy[c]) : A(y[c]) * A(dy[c]);
  if (log)
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) put(dx.data[c], A(dy[c]) - vexp(A(y[c])) * sum, dx.accumulate);
  else
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) put(dx.data[c], A(y[c]) * (A(dy[c]) - sum), dx.accumulate);
}

}  // namespace

template <Isa isa, class T> void softmax_forward(Cpu<isa>, const Softmax<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row)
    row_forward(k.x.data + row * columns, columns, k.log, k.y.data + row * columns);
}

template <Isa isa, class T> void softmax_backward(Cpu<isa>, const SoftmaxGradient<T>& k) {
  const int64_t rows = k.y.dims[0], columns = k.y.dims[1];
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t row = 0; row < rows; ++row)
    row_backward(k.y.data + row * columns, k.dy.data + row * columns, columns, k.log,
                 Sink<T>{k.dx.data + row * columns, k.dx.accumulate});
}

#define INSTANTIATE(T)                                         \
  template void softmax_forward(Cpu<kIsa>, const Softmax<T>&); \
  template void softmax_backward(Cpu<kIsa>, const SoftmaxGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
