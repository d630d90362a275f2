/// Stochastic gradient descent with momentum (Sutskever et al., ICML 2013) and weight decay, over flat buffers, as torch.optim.SGD has it.
/// With g = gradient * gradient_scale + factors.decay * weight_decay * w:
///   v = momentum v + g,  w -= factors.rate * rate * (nesterov ? g + momentum v : v)
/// Rate, scale and skip come from the step state, which is finished afterwards (kernels/finish_update.h). With skip set, weights and
/// velocity stay as they are; on a device also where a kernel has noted a bad index.
#pragma once
#include "kernels/dtype.h"
#include "kernels/step_state.h"
#include "kernels/update_factors.h"

namespace libtrain::kernels {

template <class T> struct Sgd {
  View<T> weights;          // [size]
  View<T> velocity;         // [size]; or not given, when momentum is 0
  View<const T> gradients;  // [size] of the summed loss
  View<StepState> state;    // one element
  double momentum, weight_decay;
  bool nesterov;
  View<bf16> rounded{};                 // [size], the new weights in bf16, for mixed precision; or not given
  View<const UpdateFactors> factors{};  // [size / kUpdateUnit, rounded up]; or not given: all 1
};

template <Isa isa, class T> void sgd_update(Cpu<isa>, const Sgd<T>&);
template <class T> void sgd_update(Cuda, const Sgd<T>&);

}  // namespace libtrain::kernels
