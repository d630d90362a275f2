#include "kernels/cross_entropy.h"

#include <algorithm>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/reductions.h"

namespace libtrain::kernels {
namespace {

/// Loss of one row. Everything is taken relative to the largest logit, so that no exponential overflows.
template <class T>
accum_t<T> row_forward(const T* x, int64_t vocab, int64_t target, accum_t<T> smoothing, accum_t<T>& lse) {
  using A = accum_t<T>;
  const A most = largest_of(x, vocab);
  A exponentials = 0, differences = 0;
#pragma omp simd reduction(+ : exponentials, differences)
  for (int64_t c = 0; c < vocab; ++c) {
    exponentials += vexp(A(x[c]) - most);
    differences += A(x[c]) - most;
  }
  const A log_sum = std::log(exponentials), loss = log_sum - (A(x[target]) - most);
  lse = most + log_sum;
  // Not multiplied by zero, which would make a NaN of the -inf that masks a class.
  return smoothing == 0 ? loss : (1 - smoothing) * loss + smoothing * (log_sum - differences / A(vocab));
}

/// dlogits of one row, which may alias `x`. The target's is formed on its own, so that it is rounded to T only once.
template <class T> void row_backward(const T* x, int64_t vocab, int64_t target, accum_t<T> smoothing, accum_t<T> lse,
                                     accum_t<T> dsum, Sink<T> dx) {
  using A = accum_t<T>;
  const A uniform = smoothing / A(vocab);
  const A at_target = dsum * (vexp(A(x[target]) - lse) - uniform - (1 - smoothing));
  const T before = dx.data[target];
#pragma omp simd
  for (int64_t c = 0; c < vocab; ++c) put(dx.data[c], dsum * (vexp(A(x[c]) - lse) - uniform), dx.accumulate);
  dx.data[target] = before;
  put(dx.data[target], at_target, dx.accumulate);
}

}  // namespace

template <Isa isa, class T>
void cross_entropy_forward(Cpu<isa>, const CrossEntropy<T>& k, View<accum_t<T>> loss, View<T> dlogits) {
  using A = accum_t<T>;
  const int64_t rows = k.logits.dims[0], vocab = k.logits.dims[1];
  const A smoothing = A(k.label_smoothing);
#pragma omp parallel for schedule(static) if (rows * vocab > kTeamElements)
  for (int64_t row = 0; row < rows; ++row) {
    const T* x = k.logits.data + row * vocab;
    T* dx = dlogits ? dlogits.data + row * vocab : nullptr;
    const int64_t target = k.targets.data[row];
    const bool counts = target != k.ignore_index;
    A lse = 0;
    loss.data[row] = counts ? row_forward(x, vocab, target, smoothing, lse) : A(0);
    if (k.lse) k.lse.data[row] = lse;
    if (dx && counts) row_backward(x, vocab, target, smoothing, lse, A(1), Sink<T>{dx});
    if (dx && !counts) std::fill_n(dx, vocab, T(0));
  }
}

template <Isa isa, class T>
void cross_entropy_backward(Cpu<isa>, const CrossEntropy<T>& k, View<const accum_t<T>> dsum, Sink<T> dlogits) {
  using A = accum_t<T>;
  const int64_t rows = k.logits.dims[0], vocab = k.logits.dims[1];
#pragma omp parallel for schedule(static) if (rows * vocab > kTeamElements)
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t target = k.targets.data[row];
    const Sink<T> dx{dlogits.data + row * vocab, dlogits.accumulate};
    if (target != k.ignore_index)
      row_backward(k.logits.data + row * vocab, vocab, target, A(k.label_smoothing), k.lse.data[row], dsum.data[0], dx);
    else if (!dx.accumulate)
      std::fill_n(dx.data, vocab, T(0));
  }
}

#define INSTANTIATE(T)                                                                               \
  template void cross_entropy_forward(Cpu<kIsa>, const CrossEntropy<T>&, View<accum_t<T>>, View<T>); \
  template void cross_entropy_backward(Cpu<kIsa>, const CrossEntropy<T>&, View<const accum_t<T>>, Sink<T>);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
