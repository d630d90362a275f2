#include "kernels/clip_by_value.h"

#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {
namespace {

template <class T> void clip_chunk(T* g, T limit, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const bool finite = g[i] - g[i] == 0;
    const T limited = g[i] > limit ? limit : g[i] < -limit ? -limit : g[i];
    g[i] = finite ? limited : g[i];
  }
}

}  // namespace

template <Isa isa, class T> void clip_by_value(Cpu<isa>, const ClipByValue<T>& k) {
  const T limit = T(k.max_value * double(k.state.data->loss_count));
  for_chunks(k.gradients.dims[0], [&](int64_t begin, int64_t end) { clip_chunk(k.gradients.data, limit, begin, end); });
}

template void clip_by_value(Cpu<kIsa>, const ClipByValue<float>&);
template void clip_by_value(Cpu<kIsa>, const ClipByValue<double>&);

}  // namespace libtrain::kernels
