/// Global gradient norm and clip factor (Pascanu, Mikolov, Bengio, ICML 2013), for the flat gradient buffer of a summed loss.
///   norm = |gradients| / loss_count,  gradient_scale = min(1, max_norm / norm) / loss_count
/// Writes gradient_norm, gradient_scale and skip into the step state; the gradients stay as they are, the optimizer scales them.
/// skip is set when loss_count is 0, when the norm or the sum of the losses is not finite, and on a device when a kernel has noted a bad index.
#pragma once
#include "kernels/dtype.h"
#include "kernels/step_state.h"

namespace libtrain::kernels {

/// Elements of one partial sum: fixed, so that the result does not depend on threads.
constexpr int64_t kClipBlock = 4096;
/// CUDA: partial sums, at most; beyond, each is over several blocks.
constexpr int64_t kClipSums = 1024;
constexpr int64_t clip_blocks(int64_t size) { return (size + kClipBlock - 1) / kClipBlock; }

template <class T> struct ClipByNorm {
  View<const T> gradients;  // [size]
  View<double> workspace;   // [clip_workspace(device, size)]
  View<StepState> state;    // one element
  double max_norm;          // 0: measure only
  bool holds = false;       // whether an update that is not finite holds back those after it: StepState::kHolds
};

/// What becomes of the update, from the state that clip_by_norm has completed but for this.
LIBTRAIN_HOST_DEVICE inline int64_t skip_of(const StepState& state, bool holds, bool bad_index) {
  if (state.skip >= StepState::kHolds) return StepState::kHeldBack;
  const bool norm_is_finite = state.gradient_norm - state.gradient_norm == 0;
  const bool loss_is_finite = state.loss_sum - state.loss_sum == 0;
  if (state.loss_count == 0 || bad_index) return StepState::kSkips;
  if (norm_is_finite && loss_is_finite) return StepState::kUpdates;
  return holds ? StepState::kHolds : StepState::kSkips;
}

/// Elements of the workspace: partial sums.
template <Isa isa> constexpr int64_t clip_workspace(Cpu<isa>, int64_t size) { return clip_blocks(size); }
constexpr int64_t clip_workspace(Cuda, int64_t size) {
  return size == 0 ? 1 : clip_blocks(size) < kClipSums ? clip_blocks(size) : kClipSums;
}

template <Isa isa, class T> void clip_by_norm(Cpu<isa>, const ClipByNorm<T>&);
template <class T> void clip_by_norm(Cuda, const ClipByNorm<T>&);

}  // namespace libtrain::kernels
