#pragma once
#include <algorithm>
#include <cmath>

#include "libtrain/optim/clip_by_norm.h"
#include "libtrain/optim/optimizer.h"

namespace libtrain {

/// The end of a step in a loop of your own: moves the parameters against the gradients that a backward pass has left, which are those of an
/// ordinary scalar such as a mean, and forgets them.
///   tape.backward(loss);
///   apply_update(parameters, adam({.learning_rate = 1e-3}), 1.0);
/// A gradient that is longer than clip_norm is shortened to it (0: never). The rate is the optimizer's times `factor`, which may follow a
/// schedule. An update that is NaN or infinite changes nothing, and counts in StepState::skipped_updates. Throws InvalidArgument for a factor or
/// clip_norm that is negative or not finite, for an optimizer other than the one before, and when no parameter has a gradient.
inline void apply_update(const Parameters& parameters, const Optimizer& optimizer, double clip_norm = 0,
                         double factor = 1) {
  const double rate = factor * optimizer.learning_rate;
  LIBTRAIN_CHECK(rate >= 0 && rate < 1e30,
                 "[apply_update] factor {} makes a learning rate of {}; expected one in [0, 1e30)", factor, rate);
  LIBTRAIN_CHECK(optimizer.update, "[apply_update] the optimizer has no {} function; adam() and sgd() make whole ones",
                 "update");
  LIBTRAIN_CHECK(clip_norm >= 0 && std::isfinite(clip_norm),
                 "[apply_update] clip_norm must be >= 0 and finite, got {}; 0 never clips", clip_norm);
  LIBTRAIN_CHECK(std::ranges::any_of(parameters.slots(), [](const auto& slot) { return slot.value.has_grad(); }),
                 "[apply_update] no parameter has a gradient; call {} of a loss that depends on them first",
                 "Tape::backward()");
  StepState state = parameters.step();
  state.loss_count = 1;  // of a mean already
  state.skip = StepState::kUpdates;
  state.learning_rate = rate;
  parameters.set_step(state);
  parameters.set_optimizer(optimizer.info);
  clip_by_norm(parameters, clip_norm);
  optimizer.update(parameters);
  parameters.clear_gradients();
}

}  // namespace libtrain
