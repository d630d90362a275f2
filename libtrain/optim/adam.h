#pragma once
#include "kernels/adam.h"
#include "libtrain/optim/optimizer.h"

namespace libtrain {

/// Adam (Kingma and Ba, ICLR 2015), with weight_decay AdamW (Loshchilov and Hutter, ICLR 2019).
struct AdamOptions {
  /// Step size at schedule factor 1. Must be > 0 and finite. Default 1e-3.
  double learning_rate = 1e-3;
  /// Decay of the running mean of gradients and of their squares, each in [0, 0.9999999]: f32 rounds what is closer to 1 to it, with which the
  /// means would stay 0. Defaults 0.9 and 0.98 (Vaswani et al. 2017).
  double beta1 = 0.9, beta2 = 0.98;
  /// Added to the root of the second moment, in [1e-30, 1e30): in f32 it is then neither 0, which would make NaN of a gradient of 0, nor
  /// infinite. Default 1e-9.
  double epsilon = 1e-9;
  /// Decoupled decay per unit of learning rate, >= 0 and finite, of every parameter whose group says nothing else (AdamW). Default 0: plain Adam.
  double weight_decay = 0;
};

/// Throws InvalidArgument naming the first option that is out of range.
inline void check_options(const AdamOptions& options) {
  LIBTRAIN_CHECK(options.learning_rate > 0 && options.learning_rate < 1e30,
                 "[adam] learning_rate must be > 0 and < 1e30, got {}; 1e-3 is a usual peak", options.learning_rate);
  LIBTRAIN_CHECK(options.beta1 >= 0 && options.beta1 <= detail::kMostDecay,
                 "[adam] beta1 must be in [0, {}], got {}; 0.9 is usual", detail::kMostDecay, options.beta1);
  LIBTRAIN_CHECK(options.beta2 >= 0 && options.beta2 <= detail::kMostDecay,
                 "[adam] beta2 must be in [0, {}], got {}; 0.98 and 0.999 are usual", detail::kMostDecay,
                 options.beta2);
  LIBTRAIN_CHECK(options.epsilon >= 1e-30 && options.epsilon < 1e30,
                 "[adam] epsilon must be in [1e-30, 1e30), got {}; 1e-8 is usual", options.epsilon);
  LIBTRAIN_CHECK(options.weight_decay >= 0 && options.weight_decay < 1e30,
                 "[adam] weight_decay must be >= 0 and < 1e30, got {}; 0 turns it off", options.weight_decay);
}

/// Adam for a TrainLoop. Throws InvalidArgument naming the first option that is out of range.
Optimizer adam(const AdamOptions& options);

/// Updates all parameters in place, at the learning rate that stands in the store's StepState; see kernels/adam.h for the formulas.
/// Expects complete gradients of the summed loss and a StepState prepared by clip_by_norm.
inline void adam_update(const Parameters& parameters, const AdamOptions& options) {
  parameters.check_shows_values("adam");
  const Tensor rounded = parameters.rounded_values();
  parameters.visit_dtype([&]<class T> {
    const kernels::Adam<T> args{parameters.values().view<T>(),
                                parameters.first_moment().view<T>(),
                                parameters.second_moment().view<T>(),
                                parameters.gradients().view<const T>(),
                                parameters.step_view(),
                                options.beta1,
                                options.beta2,
                                options.epsilon,
                                options.weight_decay,
                                rounded.defined() ? rounded.view<bf16>() : View<bf16>{},
                                parameters.update_factors()};
    on(parameters.device(), [&](auto device) { kernels::adam_update(device, args); });
  });
}

inline Optimizer adam(const AdamOptions& options) {
  check_options(options);
  return {options.learning_rate,
          [options](const Parameters& parameters) { adam_update(parameters, options); },
          {"adam",
           2,
           {{"learning_rate", options.learning_rate},
            {"beta1", options.beta1},
            {"beta2", options.beta2},
            {"epsilon", options.epsilon},
            {"weight_decay", options.weight_decay}}}};
}

}  // namespace libtrain
