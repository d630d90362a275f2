#include "kernels/sgd.h"

#include "kernels/cpu/update.h"
#include "kernels/finish_update.h"

namespace libtrain::kernels {
namespace {

template <class T> void update_piece(const Sgd<T>& k, const UpdateFactors& factors, int64_t begin, int64_t end) {
  const StepState& state = *k.state.data;
  const T scale = T(state.gradient_scale), momentum = T(k.momentum);
  const T rate = T(state.learning_rate) * T(factors.rate), decay = T(k.weight_decay) * T(factors.decay);
  const bool moves = k.momentum != 0, nesterov = k.nesterov;
  T *w = k.weights.data, *v = k.velocity.data;
  const T* gradients = k.gradients.data;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const T g = gradients[i] * scale + decay * w[i];
    T step = g;
    if (moves) {
      v[i] = momentum * v[i] + g;
      step = nesterov ? g + momentum * v[i] : v[i];
    }
    w[i] -= rate * step;
  }
  if (!k.rounded) return;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) k.rounded.data[i] = bf16(float(w[i]));
}

}  // namespace

template <Isa isa, class T> void sgd_update(Cpu<isa> where, const Sgd<T>& k) {
  if (!k.state.data->skip)
    for_updates(k.weights.dims[0], k.factors.data, [&](int64_t begin, int64_t end, const UpdateFactors& factors) {
      update_piece(k, factors, begin, end);
    });
  finish_update(where, k.state);
}

template void sgd_update(Cpu<kIsa>, const Sgd<float>&);
template void sgd_update(Cpu<kIsa>, const Sgd<double>&);

}  // namespace libtrain::kernels
