#pragma once
#include "kernels/sgd.h"
#include "libtrain/optim/optimizer.h"

namespace libtrain {

/// Gradient descent, with momentum where it is asked for.
struct SgdOptions {
  /// Step size at schedule factor 1. Must be > 0 and finite. Default 0.1.
  double learning_rate = 0.1;
  /// Share of the velocity that is kept, in [0, 0.9999999]: f32 rounds what is closer to 1 to it. Default 0: no momentum.
  double momentum = 0;
  /// Added to the gradient per unit of weight, >= 0 and finite, for every parameter whose group says nothing else. Default 0.
  double weight_decay = 0;
  /// Looks ahead along the velocity (Nesterov). Needs momentum. Default false.
  bool nesterov = false;
};

/// Updates all parameters in place, at the learning rate that stands in the store's StepState; see kernels/sgd.h for the formulas. The
/// velocity is the store's first moment, which without momentum is not used, as the second never is. Expects what adam_update expects.
inline void sgd_update(const Parameters& parameters, const SgdOptions& options) {
  parameters.check_shows_values("sgd");
  const Tensor rounded = parameters.rounded_values();
  parameters.visit_dtype([&]<class T> {
    const kernels::Sgd<T> args{parameters.values().view<T>(),
                               options.momentum > 0 ? parameters.first_moment().view<T>() : View<T>{},
                               parameters.gradients().view<const T>(),
                               parameters.step_view(),
                               options.momentum,
                               options.weight_decay,
                               options.nesterov,
                               rounded.defined() ? rounded.view<bf16>() : View<bf16>{},
                               parameters.update_factors()};
    on(parameters.device(), [&](auto device) { kernels::sgd_update(device, args); });
  });
}

/// Stochastic gradient descent for a TrainLoop. Throws InvalidArgument naming the first option that is out of range.
inline Optimizer sgd(const SgdOptions& options) {
  LIBTRAIN_CHECK(options.learning_rate > 0 && options.learning_rate < 1e30,
                 "[sgd] learning_rate must be > 0 and < 1e30, got {}; 1e-2 is a usual start", options.learning_rate);
  LIBTRAIN_CHECK(options.momentum >= 0 && options.momentum <= detail::kMostDecay,
                 "[sgd] momentum must be in [0, {}], got {}; 0 turns it off, 0.9 is usual", detail::kMostDecay,
                 options.momentum);
  LIBTRAIN_CHECK(options.weight_decay >= 0 && options.weight_decay < 1e30,
                 "[sgd] weight_decay must be >= 0 and < 1e30, got {}; 0 turns it off", options.weight_decay);
  LIBTRAIN_CHECK(!options.nesterov || options.momentum > 0, "[sgd] nesterov needs momentum > 0, got {}; 0.9 is usual",
                 options.momentum);
  return {options.learning_rate,
          [options](const Parameters& parameters) { sgd_update(parameters, options); },
          {"sgd",
           options.momentum > 0 ? 1 : 0,
           {{"learning_rate", options.learning_rate},
            {"momentum", options.momentum},
            {"weight_decay", options.weight_decay},
            {"nesterov", double(options.nesterov)}}}};
}

}  // namespace libtrain
