// Shapes    state, one element.
// Mapping   One warp, of which one thread works: a launch of its own, so that every block of the update has read the state. The library's
//           optimizers leave this to the last block of their own launch (update.cuh).
// Traffic   40 bytes.
// Numerics  Exact.
// Measured  docs/kernels.md.
#include "kernels/finish_update.h"

#include "kernels/cuda/update.cuh"

namespace libtrain::kernels {
namespace {

/// For optimizers whose own kernels do not finish the state.
__global__ void finish_kernel(StepState* state, const BadIndex* note) {
  if (threadIdx.x == 0) finish(state, note);
}

}  // namespace

void finish_update(Cuda where, View<StepState> state) {
  launch(where, "finish_update", {1, kWarp}, finish_kernel, state.data, where.bad_index);
}

}  // namespace libtrain::kernels
