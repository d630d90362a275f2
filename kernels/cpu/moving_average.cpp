#include "kernels/moving_average.h"

#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {
namespace {

template <class T> void average_chunk(T* average, const T* weights, T share, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) average[i] += share * (weights[i] - average[i]);
}

}  // namespace

template <Isa isa, class T> void moving_average(Cpu<isa>, const MovingAverage<T>& k) {
  const StepState& state = *k.state.data;
  if (state.skip) return;
  const T share = T(1 - average_keeps(k.decay, state.updates));
  for_chunks(k.average.dims[0],
             [&](int64_t begin, int64_t end) { average_chunk(k.average.data, k.weights.data, share, begin, end); });
}

template void moving_average(Cpu<kIsa>, const MovingAverage<float>&);
template void moving_average(Cpu<kIsa>, const MovingAverage<double>&);

}  // namespace libtrain::kernels
