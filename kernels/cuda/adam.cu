// Shapes    weights, first_moment, second_moment, gradients, rounded [size]; state, one element.
// Mapping   A thread owns a pack of 16 bytes of each buffer (or an element) and strides over the grid; the first thread of a block works
//           out the factors of the update from the state. A second launch of one thread writes the state, when all have read it.
// Traffic   Reads weights, moments and gradients, writes weights and moments: 28 bytes a weight in f32, 30 with `rounded`. Moments and
//           gradients pass the cache by; weights stay, for the forward to come. Bound by memory.
// Numerics  Factors in f64 and rounded once; the update in f32 (f64 for f64), as on the CPU up to contraction.
// Source    See kernels/adam.h.
// Measured  Not yet on a device.
#include "kernels/adam.h"

#include "values.cuh"

namespace libtrain::kernels {
namespace {

constexpr int kThreads = 256;

__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }

/// What is the same for all weights.
template <class T> struct Factors {
  T scale, rate, second, keep;
  bool skip;
};

__device__ inline bool must_skip(const StepState& state, const BadIndex* note) {
  return state.skip || (note && note->op != BadIndex::kNone);
}

template <class T> __device__ inline Factors<T> factors_of(const Adam<T>& k, const BadIndex* note) {
  const StepState& state = *k.state.data;
  const double t = double(state.updates + 1), rate = state.learning_rate;
  return {T(state.gradient_scale), T(rate / (1 - pow(k.beta1, t))), T(1 / sqrt(1 - pow(k.beta2, t))),
          T(1 - rate * k.weight_decay), must_skip(state, note)};
}

/// The update of `n` neighbouring weights a thread.
template <int n, class T> __global__ void __launch_bounds__(kThreads)
    update_weights(Adam<T> k, int64_t parts, const BadIndex* note) {
  __shared__ Factors<T> shared;
  if (threadIdx.x == 0) shared = factors_of(k, note);
  __syncthreads();
  const Factors<T> f = shared;
  if (f.skip) return;
  const T beta1 = T(k.beta1), beta2 = T(k.beta2), epsilon = T(k.epsilon);
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < parts; i += int64_t(gridDim.x) * kThreads) {
    T g[n], m[n], v[n], w[n];
    load_values_streaming<n>(k.gradients.data + i * n, g);
    load_values_streaming<n>(k.first_moment.data + i * n, m);
    load_values_streaming<n>(k.second_moment.data + i * n, v);
    load_values<n>(k.weights.data + i * n, w);
#pragma unroll
    for (int j = 0; j < n; ++j) {
      g[j] *= f.scale;
      m[j] = beta1 * m[j] + (1 - beta1) * g[j];
      v[j] = beta2 * v[j] + (1 - beta2) * g[j] * g[j];
      w[j] = f.keep * w[j] - f.rate * m[j] / (root(v[j]) * f.second + epsilon);
    }
    store_values_streaming<n>(k.first_moment.data + i * n, m);
    store_values_streaming<n>(k.second_moment.data + i * n, v);
    store_values<n>(k.weights.data + i * n, w);
    if (!k.rounded.data) continue;
    float rounded[n];
#pragma unroll
    for (int j = 0; j < n; ++j) rounded[j] = float(w[j]);
    store_values<n>(k.rounded.data + i * n, rounded);
  }
}

/// Counts the update and opens the next one. One warp, of which one thread works.
__global__ void finish_update(StepState* state, const BadIndex* note) {
  if (threadIdx.x != 0) return;
  if (must_skip(*state, note)) {
    state->skip = 1;
    state->skipped_updates += state->loss_count > 0;
  } else {
    ++state->updates;
  }
  state->loss_sum = 0;
  state->loss_count = 0;
}

}  // namespace

template <class T> void adam_update(Cuda where, const Adam<T>& k) {
  const int64_t size = k.weights.dims[0];
  const bool wide = packs_fit(k.weights.data, size) && packs_fit(k.first_moment.data, size) &&
                    packs_fit(k.second_moment.data, size) && packs_fit(k.gradients.data, size) &&
                    reinterpret_cast<uintptr_t>(k.rounded.data) % 8 == 0;
  const int64_t parts = wide ? size / kWide<T> : size;
  const LaunchShape shape{persistent_blocks(parts, kThreads, 8), kThreads};
  launch(where, "adam_update", shape, wide ? update_weights<kWide<T>, T> : update_weights<1, T>, k, parts,
         where.bad_index);
  launch(where, "adam_update", {1, kWarp}, finish_update, k.state.data, where.bad_index);
}

template void adam_update(Cuda, const Adam<float>&);
template void adam_update(Cuda, const Adam<double>&);

}  // namespace libtrain::kernels
