// Shapes    weights, first_moment, second_moment, gradients, rounded [size]; state, one element; factors [size / 32, rounded up].
// Mapping   A thread owns a pack of 16 bytes of each buffer (or an element) and strides over the grid; the first thread of a block works
//           out what is the same for all weights from the state. The last block to finish writes the state, which all have read then.
// Traffic   Reads weights, moments and gradients, writes weights and moments: 28 bytes a weight in f32, 30 with `rounded`, and a quarter
//           of a byte more with `factors`. Bound by memory. (Streaming accesses take 5 % longer on an H200, larger parts for a thread too.)
// Numerics  Factors in f64 and rounded once; the update in f32 (f64 for f64), as on the CPU up to contraction.
// Source    See kernels/adam.h.
// Measured  docs/kernels.md.
#include "kernels/adam.h"

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/update.cuh"

namespace libtrain::kernels {
namespace {

/// What is the same for all weights, or for those of a unit.
template <class T> struct Step {
  T scale, rate, second, keep;
  bool skip;
};

template <class T> __device__ inline Step<T> step_of(const Adam<T>& k, const BadIndex* note) {
  const StepState& state = *k.state.data;
  const double t = double(state.updates + 1), rate = state.learning_rate;
  return {T(state.gradient_scale), T(rate / (1 - pow(k.beta1, t))), T(1 / sqrt(1 - pow(k.beta2, t))),
          T(1 - rate * k.weight_decay), must_skip(state, note)};
}

template <class T> __device__ inline Step<T> with_factors(Step<T> step, UpdateFactors factors) {
  step.rate *= T(factors.rate);
  step.keep = 1 - T(factors.rate) * T(factors.decay) * (1 - step.keep);
  return step;
}

/// The update of `width` neighbouring weights a thread.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    update_weights(Adam<T> k, int64_t parts, UpdateEnd end) {
  __shared__ Step<T> shared;
  if (threadIdx.x == 0) shared = step_of(k, end.note);
  __syncthreads();
  if (shared.skip) return end.arrive();
  const T beta1 = T(k.beta1), beta2 = T(k.beta2), epsilon = T(k.epsilon);
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
#pragma unroll 1
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < parts; i += stride) {
    const UpdateFactors factors = factors_at(k.factors.data, i * width);
    if (factors.rate == 0) continue;
    const Step<T> f = with_factors(shared, factors);
    const auto gradients = load_elements<width>(k.gradients.data + i * width);
    auto m = load_elements<width>(k.first_moment.data + i * width);
    auto v = load_elements<width>(k.second_moment.data + i * width);
    auto w = load_elements<width>(k.weights.data + i * width);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      const T g = gradients.at[j] * f.scale;
      m.at[j] = beta1 * m.at[j] + (1 - beta1) * g;
      v.at[j] = beta2 * v.at[j] + (1 - beta2) * g * g;
      w.at[j] = f.keep * w.at[j] - f.rate * m.at[j] / (CudaMath::sqrt(v.at[j]) * f.second + epsilon);
    }
    store_elements(k.first_moment.data + i * width, m);
    store_elements(k.second_moment.data + i * width, v);
    store_elements(k.weights.data + i * width, w);
    if (k.rounded.data) store_elements(k.rounded.data + i * width, elements_as<bf16>(w));
  }
  end.arrive();
}

}  // namespace

template <class T> void adam_update(Cuda where, const Adam<T>& k) {
  const int64_t size = k.weights.dims[0];
  const bool wide = packs_fit(k.weights.data, size) && packs_fit(k.first_moment.data, size) &&
                    packs_fit(k.second_moment.data, size) && packs_fit(k.gradients.data, size) &&
                    reinterpret_cast<uintptr_t>(k.rounded.data) % 8 == 0;
  const int64_t parts = wide ? size / Pack<T>::kSize : size;
  launch(where, "adam_update", update_shape(parts), wide ? update_weights<Pack<T>::kSize, T> : update_weights<1, T>, k,
         parts, UpdateEnd{k.state.data, where.bad_index, where.tickets});
}

template void adam_update(Cuda, const Adam<float>&);
template void adam_update(Cuda, const Adam<double>&);

}  // namespace libtrain::kernels
