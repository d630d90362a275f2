/// The end of an update, when every kernel of the optimizer has read the step state: `updates` (or, for one that is not finite,
/// `skipped_updates`; neither for one that is held back) is one more, loss_sum and loss_count are zero. A device also sets skip, where a kernel
/// has noted a bad index.
#pragma once
#include "kernels/step_state.h"
#include "kernels/view.h"

namespace libtrain::kernels {

template <Isa isa> void finish_update(Cpu<isa>, View<StepState> state);
void finish_update(Cuda, View<StepState> state);

}  // namespace libtrain::kernels
