/// Adam (Kingma and Ba, ICLR 2015) with decoupled weight decay (Loshchilov and Hutter, ICLR 2019), over flat buffers. With t = updates + 1,
/// g = gradient * gradient_scale, and the factors of the weight's unit:
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g²
///   w -= factors.rate * rate * (factors.decay * weight_decay * w + (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon))
/// Rate, t, scale and skip come from the step state, which is finished afterwards (kernels/finish_update.h). With skip set, weights and
/// moments stay as they are; on a device also where a kernel has noted a bad index.
#pragma once
#include "kernels/dtype.h"
#include "kernels/step_state.h"
#include "kernels/update_factors.h"

namespace libtrain::kernels {

template <class T> struct Adam {
  View<T> weights;          // [size]
  View<T> first_moment;     // [size]
  View<T> second_moment;    // [size]
  View<const T> gradients;  // [size] of the summed loss
  View<StepState> state;    // one element
  double beta1, beta2, epsilon, weight_decay;
  View<bf16> rounded{};                 // [size], the new weights in bf16, for mixed precision; or not given
  View<const UpdateFactors> factors{};  // [size / kUpdateUnit, rounded up]; or not given: all 1
};

template <Isa isa, class T> void adam_update(Cpu<isa>, const Adam<T>&);
template <class T> void adam_update(Cuda, const Adam<T>&);

}  // namespace libtrain::kernels
