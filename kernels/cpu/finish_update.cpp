#include "kernels/finish_update.h"

#include "kernels/cpu/common.h"

namespace libtrain::kernels {

template <Isa isa> void finish_update(Cpu<isa>, View<StepState> view) {
  StepState& state = *view.data;
  if (!state.skip)
    ++state.updates;
  else if (state.loss_count > 0 && state.skip != StepState::kHeldBack)
    ++state.skipped_updates;
  state.loss_sum = 0;
  state.loss_count = 0;
}

template void finish_update(Cpu<kIsa>, View<StepState>);

}  // namespace libtrain::kernels
