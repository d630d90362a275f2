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

/// Factors of the weights from `at` on.
__device__ inline UpdateFactors factors_at(const UpdateFactors* table, int64_t at) {
  return table ? table[at / kUpdateUnit] : UpdateFactors{};
}

}  // namespace libtrain::kernels
