// Shapes    gradients [size]; workspace [sums], sums = min(blocks of 4,096 elements, 1,024); state, one element.
// Mapping   CUDA block i owns partial sum i: blocks i, i + 1024, i + 2048... of the gradients, 16 bytes a thread and load, four under
//           way (or an element). The last CUDA block to finish adds the partial sums up, and one of its threads writes the state.
// Traffic   Reads the gradients once; bound by memory (on devices with few f64 units, by those).
// Numerics  Squares and sums in f64, so that no finite f32 gradient overflows, in an order that depends on size alone.
// Source    See kernels/clip_by_norm.h.
// Measured  docs/kernels.md.
#include "kernels/clip_by_norm.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// The sum of the squares of one block of 4,096 elements that this thread sees: `width` neighbours at a time.
template <int width, class T> __device__ inline double squares_in(const T* g, int64_t count) {
  double sum = 0;
#pragma unroll 4
  for (int i = 0; i < int(kClipBlock) / (width * kBlockThreads); ++i) {
    const int64_t at = (int64_t(i) * kBlockThreads + threadIdx.x) * width;
    Elements<T, width> x = {};
    if (at < count) x = load_elements<width>(g + at);
#pragma unroll
    for (int j = 0; j < width; ++j) sum += double(x.at[j]) * double(x.at[j]);
  }
  return sum;
}

/// Norm, scale and skip from the squares of all gradients.
__device__ inline void decide_scale(double squares, StepState* state, double max_norm, bool holds,
                                    const BadIndex* note) {
  const double targets = state->loss_count > 0 ? double(state->loss_count) : 1;
  const double norm = sqrt(squares) / targets;
  state->gradient_norm = norm;
  state->gradient_scale = (max_norm > 0 && norm > max_norm ? max_norm / norm : 1) / targets;
  state->skip = skip_of(*state, holds, note && note->op != BadIndex::kNone);
}

/// A block sums the squares over the blocks of gradients that are i-th of gridDim.x, the last one what all have summed.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    clip(ClipByNorm<T> k, unsigned* ticket, const BadIndex* note) {
  const int64_t size = k.gradients.dims[0];
  double sum = 0;
  for (int64_t first = blockIdx.x * kClipBlock; first < size; first += gridDim.x * kClipBlock)
    sum += squares_in<width>(k.gradients.data + first, size - first);
  sum = block_reduce<Sum, kBlockThreads>(sum);
  if (threadIdx.x == 0) k.workspace.data[blockIdx.x] = sum;
  if (!arrives_last(ticket, int(gridDim.x))) return;
  double squares = 0;
  for (int i = threadIdx.x; i < int(gridDim.x); i += kBlockThreads) squares += k.workspace.data[i];
  squares = block_reduce<Sum, kBlockThreads>(squares);
  if (threadIdx.x == 0) decide_scale(squares, k.state.data, k.max_norm, k.holds, note);
}

}  // namespace

template <class T> void clip_by_norm(Cuda where, const ClipByNorm<T>& k) {
  const int64_t size = k.gradients.dims[0], sums = clip_workspace(where, size);
  const bool wide = packs_fit(k.gradients.data, size);
  launch(where, "clip_by_norm", {unsigned(sums), kBlockThreads}, wide ? clip<Pack<T>::kSize, T> : clip<1, T>, k,
         where.tickets, where.bad_index);
}

template void clip_by_norm(Cuda, const ClipByNorm<float>&);
template void clip_by_norm(Cuda, const ClipByNorm<double>&);

}  // namespace libtrain::kernels
