/// What the optimizers on a device share.
#pragma once
#include "kernels/cuda/elements.cuh"
#include "kernels/step_state.h"
#include "kernels/update_factors.h"

namespace libtrain::kernels {

/// Whether an update must change nothing.
__device__ inline bool must_skip(const StepState& state, const BadIndex* note) {
  return state.skip || (note && note->op != BadIndex::kNone);
}

/// Counts the update and opens the next one, when every kernel of the optimizer has read the state.
__device__ inline void finish(StepState* state, const BadIndex* note) {
  if (must_skip(*state, note)) {
    if (state->skip == StepState::kUpdates) state->skip = StepState::kSkips;
    state->skipped_updates += state->loss_count > 0 && state->skip != StepState::kHeldBack;
  } else {
    ++state->updates;
  }
  state->loss_sum = 0;
  state->loss_count = 0;
}

/// What is the same for all blocks of an update of weights: the last one to finish finishes the state.
struct UpdateEnd {
  StepState* state;
  const BadIndex* note;
  unsigned* ticket;

  /// The whole block calls it when it has read the state.
  __device__ void arrive() const {
    if (arrives_last(ticket, int(gridDim.x)) && threadIdx.x == 0) finish(state, note);
  }
};

/// Blocks of an update of `parts` weights or packs: one at least, for the state. Eight times what a multiprocessor holds, so that those with
/// the quicker way to memory take more of them.
inline LaunchShape update_shape(int64_t parts) {
  const unsigned blocks = persistent_blocks(parts, kBlockThreads, 64);
  return {blocks + !blocks, kBlockThreads};
}

/// Factors of the weights from `at` on.
__device__ inline UpdateFactors factors_at(const UpdateFactors* table, int64_t at) {
  return table ? table[at / kUpdateUnit] : UpdateFactors{};
}

}  // namespace libtrain::kernels
