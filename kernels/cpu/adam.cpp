#include "kernels/adam.h"

#include <cmath>

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// A loop for each value of `rounds`, so that neither asks within.
template <bool rounds, class T> void update_weights(const Adam<T>& k) {
  const StepState& state = *k.state.data;
  const double t = double(state.updates + 1);
  const T scale = T(state.gradient_scale), beta1 = T(k.beta1), beta2 = T(k.beta2), epsilon = T(k.epsilon);
  const T rate = T(state.learning_rate / (1 - std::pow(k.beta1, t)));
  const T second = T(1 / std::sqrt(1 - std::pow(k.beta2, t)));
  const T keep = T(1 - state.learning_rate * k.weight_decay);
  T *w = k.weights.data, *m = k.first_moment.data, *v = k.second_moment.data;
  const T* gradients = k.gradients.data;
  bf16* rounded = k.rounded.data;
#pragma omp parallel for simd schedule(static) if (k.weights.dims[0] > kTeamElements)
  for (int64_t i = 0; i < k.weights.dims[0]; ++i) {
    const T g = gradients[i] * scale;
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    w[i] = keep * w[i] - rate * m[i] / (std::sqrt(v[i]) * second + epsilon);
    if constexpr (rounds) rounded[i] = bf16(float(w[i]));
  }
}

}  // namespace

template <Isa isa, class T> void adam_update(Cpu<isa>, const Adam<T>& k) {
  StepState& state = *k.state.data;
  if (!state.skip) {
    k.rounded ? update_weights<true>(k) : update_weights<false>(k);
    ++state.updates;
  } else if (state.loss_count > 0) {
    ++state.skipped_updates;
  }
  state.loss_sum = 0;
  state.loss_count = 0;
}

template void adam_update(Cpu<kIsa>, const Adam<float>&);
template void adam_update(Cpu<kIsa>, const Adam<double>&);

}  // namespace libtrain::kernels
