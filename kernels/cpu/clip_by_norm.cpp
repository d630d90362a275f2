#include "kernels/clip_by_norm.h"

#include <cmath>

#include "kernels/cpu/common.h"

namespace libtrain::kernels {

template <Isa isa, class T> void clip_by_norm(Cpu<isa>, const ClipByNorm<T>& k) {
  const int64_t size = k.gradients.dims[0], blocks = clip_blocks(size);
#pragma omp parallel for schedule(static) if (size > kTeamElements)
  for (int64_t block = 0; block < blocks; ++block) {
    const T* g = k.gradients.data + block * kClipBlock;
    const int64_t n = size - block * kClipBlock < kClipBlock ? size - block * kClipBlock : kClipBlock;
    double sum = 0;  // f64, so that no finite f32 gradient overflows
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += double(g[i]) * double(g[i]);
    k.workspace.data[block] = sum;
  }
  double squares = 0;
  for (int64_t block = 0; block < blocks; ++block) squares += k.workspace.data[block];

  StepState& state = *k.state.data;
  const double count = state.loss_count > 0 ? double(state.loss_count) : 1;
  state.gradient_norm = std::sqrt(squares) / count;
  const bool clips = k.max_norm > 0 && state.gradient_norm > k.max_norm;
  state.gradient_scale = (clips ? k.max_norm / state.gradient_norm : 1) / count;
  state.skip = skip_of(state, k.holds, false);
}

template void clip_by_norm(Cpu<kIsa>, const ClipByNorm<float>&);
template void clip_by_norm(Cpu<kIsa>, const ClipByNorm<double>&);

}  // namespace libtrain::kernels
