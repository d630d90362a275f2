// Shapes    state, one element.
// Mapping   One warp, of which one thread works: a launch of its own, so that every block of the update has read the state.
// Traffic   40 bytes.
// Numerics  Exact.
// Measured  Not yet on a device.
#include "kernels/finish_update.h"

#include "kernels/cuda/update.cuh"

namespace libtrain::kernels {
namespace {

/// Counts the update and opens the next one.
__global__ void finish(StepState* state, const BadIndex* note) {
  if (threadIdx.x != 0) return;
  if (must_skip(*state, note)) {
    if (state->skip == StepState::kUpdates) state->skip = StepState::kSkips;
    state->skipped_updates += state->loss_count > 0 && state->skip != StepState::kHeldBack;
  } else {
    ++state->updates;
  }
  state->loss_sum = 0;
  state->loss_count = 0;
}

}  // namespace

void finish_update(Cuda where, View<StepState> state) {
  launch(where, "finish_update", {1, kWarp}, finish, state.data, where.bad_index);
}

}  // namespace libtrain::kernels
