#include "tests/device/fragments.h"

#include "kernels/cuda/common.cuh"

namespace libtrain::kernels {
namespace {

/// One warp: loads four matrices both ways, multiplies fragments that come straight from memory, and writes all registers.
__global__ void __launch_bounds__(kWarp) dump_kernel(const int32_t* in, int32_t* out) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  const int lane = int(threadIdx.x);
  auto* matrices = reinterpret_cast<int32_t*>(shared);
  for (int i = 0; i < 4; ++i) matrices[32 * i + lane] = in[32 * i + lane];
  __syncthreads();
  uint32_t straight[4], transposed[4];
  ptx::ldmatrix_x4(straight, shared + 16 * lane);
  ptx::ldmatrix_x4_trans(transposed, shared + 16 * lane);
  uint32_t a[4];
  for (int i = 0; i < 4; ++i) a[i] = uint32_t(in[128 + 32 * i + lane]);
  float d[4] = {};
  ptx::mma_bf16(d, a, uint32_t(in[256 + lane]), uint32_t(in[288 + lane]));
  for (int i = 0; i < 4; ++i) {
    out[32 * i + lane] = int32_t(straight[i]);
    out[32 * (4 + i) + lane] = int32_t(transposed[i]);
    out[32 * (8 + i) + lane] = int32_t(__float_as_uint(d[i]));
  }
}

}  // namespace

void dump_fragments(Cuda where, const int32_t* in, int32_t* out) {
  launch(where, "dump_fragments", {1, kWarp, 512}, dump_kernel, in, out);
}

}  // namespace libtrain::kernels
