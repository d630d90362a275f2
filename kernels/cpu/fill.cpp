#include "kernels/fill.h"

#include "kernels/cpu/chunks.h"

namespace libtrain::kernels {

template <Isa isa, class T> void fill(Cpu<isa>, const Fill<T>& k) {
  for_chunks(k.y.size(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) k.y.data[i] = k.value;
  });
}

#define INSTANTIATE(T) template void fill(Cpu<kIsa>, const Fill<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)
INSTANTIATE(int32_t)
INSTANTIATE(int64_t)

}  // namespace libtrain::kernels
