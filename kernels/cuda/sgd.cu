// Shapes    weights, velocity, gradients, rounded [size]; state, one element; factors [size / 32, rounded up].
// Mapping   A thread owns a pack of 16 bytes of each buffer (or an element) and strides over the grid. The last block to
//           finish writes the state, which all have read then.
// Traffic   Reads weights, velocity and gradients, writes weights and velocity: 20 bytes a weight in f32, 12 without momentum, 2 more with
//           `rounded`, and a quarter of a byte more with `factors`. Bound by memory.
// Numerics  In f32 (f64 for f64), as on the CPU up to contraction.
// Source    See kernels/sgd.h.
// Measured  docs/kernels.md.
#include "kernels/sgd.h"

#include "kernels/cuda/update.cuh"

namespace libtrain::kernels {
namespace {

/// The new weights, from gradients that hold scale and decay already; velocity is updated where there is momentum.
template <int width, class T>
__device__ inline void descend(Elements<T, width>& w, Elements<T, width> g, const Sgd<T>& k, T rate, int64_t at) {
  if (k.momentum != 0) {
    const T momentum = T(k.momentum);
    auto v = load_elements<width>(k.velocity.data + at);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      v.at[j] = momentum * v.at[j] + g.at[j];
      g.at[j] = k.nesterov ? g.at[j] + momentum * v.at[j] : v.at[j];
    }
    store_elements(k.velocity.data + at, v);
  }
#pragma unroll
  for (int j = 0; j < width; ++j) w.at[j] -= rate * g.at[j];
}

/// The update of `width` neighbouring weights a thread.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    sgd_weights(Sgd<T> k, int64_t parts, UpdateEnd end) {
  const StepState& state = *k.state.data;
  if (must_skip(state, end.note)) return end.arrive();
  const T scale = T(state.gradient_scale), learning_rate = T(state.learning_rate), weight_decay = T(k.weight_decay);
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads;
#pragma unroll 1
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < parts; i += stride) {
    const UpdateFactors factors = factors_at(k.factors.data, i * width);
    if (factors.rate == 0) continue;
    const T decay = weight_decay * T(factors.decay);
    auto g = load_elements<width>(k.gradients.data + i * width);
    auto w = load_elements<width>(k.weights.data + i * width);
#pragma unroll
    for (int j = 0; j < width; ++j) g.at[j] = g.at[j] * scale + decay * w.at[j];
    descend(w, g, k, learning_rate * T(factors.rate), i * width);
    store_elements(k.weights.data + i * width, w);
    if (k.rounded.data) store_elements(k.rounded.data + i * width, elements_as<bf16>(w));
  }
  end.arrive();
}

}  // namespace

template <class T> void sgd_update(Cuda where, const Sgd<T>& k) {
  const int64_t size = k.weights.dims[0];
  const bool wide = packs_fit(k.weights.data, size) && packs_fit(k.velocity.data, size) &&
                    packs_fit(k.gradients.data, size) && reinterpret_cast<uintptr_t>(k.rounded.data) % 8 == 0;
  const int64_t parts = wide ? size / Pack<T>::kSize : size;
  launch(where, "sgd_update", update_shape(parts), wide ? sgd_weights<Pack<T>::kSize, T> : sgd_weights<1, T>, k, parts,
         UpdateEnd{k.state.data, where.bad_index, where.tickets});
}

template void sgd_update(Cuda, const Sgd<float>&);
template void sgd_update(Cuda, const Sgd<double>&);

}  // namespace libtrain::kernels
