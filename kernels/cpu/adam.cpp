#include "kernels/adam.h"

#include <cmath>

#include "kernels/cpu/update.h"
#include "kernels/finish_update.h"

namespace libtrain::kernels {
namespace {

/// What is the same for all weights, or for those of a piece.
template <class T> struct Step { T scale, rate, second, keep; };

template <class T> Step<T> step_of(const Adam<T>& k) {
  const StepState& state = *k.state.data;
  const double t = double(state.updates + 1);
  return {T(state.gradient_scale), T(state.learning_rate / (1 - std::pow(k.beta1, t))),
          T(1 / std::sqrt(1 - std::pow(k.beta2, t))), T(1 - state.learning_rate * k.weight_decay)};
}

template <class T> Step<T> with_factors(Step<T> step, const UpdateFactors& factors) {
  const T decay = T(factors.rate) * T(factors.decay);
  step.rate *= T(factors.rate);
  step.keep = 1 - decay * (1 - step.keep);
  return step;
}

/// A loop for each value of `rounds`, so that neither asks within.
template <bool rounds, class T> void update_piece(const Adam<T>& k, const Step<T>& f, int64_t begin, int64_t end) {
  const T beta1 = T(k.beta1), beta2 = T(k.beta2), epsilon = T(k.epsilon);
  T *w = k.weights.data, *m = k.first_moment.data, *v = k.second_moment.data;
  const T* gradients = k.gradients.data;
  bf16* rounded = k.rounded.data;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const T g = gradients[i] * f.scale;
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    w[i] = f.keep * w[i] - f.rate * m[i] / (std::sqrt(v[i]) * f.second + epsilon);
    if constexpr (rounds) rounded[i] = bf16(float(w[i]));
  }
}

template <bool rounds, class T> void update_weights(const Adam<T>& k) {
  const Step<T> step = step_of(k);
  for_updates(k.weights.dims[0], k.factors.data, [&](int64_t begin, int64_t end, const UpdateFactors& factors) {
    update_piece<rounds>(k, with_factors(step, factors), begin, end);
  });
}

}  // namespace

template <Isa isa, class T> void adam_update(Cpu<isa> where, const Adam<T>& k) {
  if (!k.state.data->skip) k.rounded ? update_weights<true>(k) : update_weights<false>(k);
  finish_update(where, k.state);
}

template void adam_update(Cpu<kIsa>, const Adam<float>&);
template void adam_update(Cpu<kIsa>, const Adam<double>&);

}  // namespace libtrain::kernels
