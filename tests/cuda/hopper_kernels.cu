#include "tests/cuda/hopper_kernels.h"

#include "tests/cuda/hopper_product.cuh"

namespace libtrain::kernels::hopper {
namespace {

template <class P> void run(Cuda where, const bf16* a, const bf16* b, float* c, int k) {
  const int tiles = (k + 63) / 64;
  run_product<P>(where, a, b, c, k, tiles, tiles);
}

template <class P> ProductCase product_case(const char* name) {
  return {name, 64 * P::kConsumers, P::kN, P::kTransposeB, run<P>};
}

/// Writes 8 rows of K from a row-major [16, 64] to shared memory as wgmma's transposed operands want them.
__device__ inline void write_tile(unsigned char* tile, const bf16* x) {
  const int row = threadIdx.x / 8, piece = threadIdx.x % 8;
  store_16(tile + row * 128 + (piece ^ row % 8) * 16, load_16(x + row * 64 + piece * 8));
}

__global__ void written_kernel(const bf16* a, const bf16* b, float* c) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  unsigned char* const tile_b = shared + 2048;
  write_tile(shared, a);
  write_tile(tile_b, b);
  ptx::fence_proxy_async();
  __syncthreads();
  float d[8][4];
  for (int i = 0; i < 32; ++i) d[i / 4][i % 4] = 7;  // which the product overwrites
  ptx::wgmma_fence(d);
  const uint64_t of_b = ptx::wgmma_descriptor_transposed(tile_b, 2048);
  ptx::wgmma<64, true, true>(d, ptx::wgmma_descriptor_transposed(shared, 2048), of_b, false);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(d);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
  for (int n = 0; n < 8; ++n)
    for (int e = 0; e < 4; ++e) c[(row + e / 2 * 8) * 64 + n * 8 + lane % 4 * 2 + e % 2] = d[n][e];
}

constexpr int kBoxRows = 24;

__global__ void box_kernel(const __grid_constant__ ptx::TensorMap map, int row, int column, bf16* out) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ uint64_t arrived;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&arrived, 1);
    ptx::mbarrier_fence_init();
    ptx::tma_load(shared, map, column, row, &arrived);  // before the bytes are announced
    ptx::mbarrier_arrive_expect_tx(&arrived, kBoxRows * 128);
  }
  __syncthreads();
  ptx::mbarrier_wait(&arrived, 0);
  for (int i = threadIdx.x; i < kBoxRows * 8; i += blockDim.x) {
    const int r = i / 8, piece = i % 8;
    store_16(out + r * 64 + piece * 8, load_16(shared + r * 128 + (piece ^ r % 8) * 16));
  }
}

__global__ void pass_kernel(const float* x, float* y, int rounds) {
  __shared__ float buffer[128];
  constexpr int kFull = 1, kEmpty = 2;
  const int i = threadIdx.x % 128;
  if (threadIdx.x < 128) {
    for (int round = 0; round < rounds; ++round) {
      if (round > 0) ptx::named_barrier_sync(kEmpty, 256);
      buffer[i] = x[round * 128 + i];
      ptx::named_barrier_arrive(kFull, 256);
    }
  } else {
    for (int round = 0; round < rounds; ++round) {
      ptx::named_barrier_sync(kFull, 256);
      y[round * 128 + i] = buffer[127 - i];
      if (round + 1 < rounds) ptx::named_barrier_arrive(kEmpty, 256);
    }
  }
}

__global__ void phases_kernel(int* out, int rounds) {
  __shared__ uint64_t barrier;
  __shared__ int arrived[64];
  if (threadIdx.x == 0) ptx::mbarrier_init(&barrier, 64);
  arrived[threadIdx.x] = 0;
  __syncthreads();
  int right = 0;
  for (int round = 0; round < 2 * rounds; ++round) {
    arrived[threadIdx.x] = round + 1;
    ptx::mbarrier_arrive(&barrier);
    ptx::mbarrier_wait(&barrier, round % 2);
    int all = 0;
    for (int other = 0; other < 64; ++other) all += arrived[other] == round + 1;
    right += all == 64;
    __syncthreads();
  }
  out[threadIdx.x] = right;
}

}  // namespace

const std::vector<ProductCase>& products() {
  using enum From;
  static const std::vector<ProductCase> all{
      product_case<Product<64, false, kShared, 2>>("64 columns"),
      product_case<Product<64, true, kShared, 2>>("64 columns, transposed"),
      product_case<Product<8, false, kShared, 2>>("8 columns"),
      product_case<Product<24, false, kRegisters, 3>>("24 columns, A from registers"),
      product_case<Product<128, false, kShared, 2, 2>>("128 columns, two consumers"),
      product_case<Product<128, true, kRegisters, 2, 2>>("128 columns, transposed, A from registers, two consumers"),
      product_case<Product<192, true, kShared, 1>>("192 columns, transposed, one stage"),
      product_case<Product<256, false, kShared, 1>>("256 columns, one stage"),
      product_case<Product<64, false, kShared, 3, 1, 1>>("64 columns, a group under way"),
      product_case<Product<64, true, kRegisters, 3, 2, 1>>("64 columns, transposed, registers, a group under way"),
  };
  return all;
}

void product_of_written(Cuda where, const bf16* a, const bf16* b, float* c) {
  launch(where, "product_of_written", {1, 128, 4096}, written_kernel, a, b, c);
}

void load_box(Cuda where, const bf16* x, int64_t rows, int64_t columns, int64_t row_stride, int row, int column,
              bf16* out) {
  const auto map = ptx::tensor_map(x, rows, columns, row_stride, kBoxRows, 64);
  launch(where, "load_box", {1, 32, kBoxRows * 128}, box_kernel, map, row, column, out);
}

void pass_by_named_barriers(Cuda where, const float* x, float* y, int rounds) {
  launch(where, "pass_by_named_barriers", {1, 256}, pass_kernel, x, y, rounds);
}

void count_phases(Cuda where, int* out, int rounds) {
  launch(where, "count_phases", {1, 64}, phases_kernel, out, rounds);
}

}  // namespace libtrain::kernels::hopper
