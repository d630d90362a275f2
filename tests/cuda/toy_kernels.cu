// Small kernels for the tests of the execution on the CPU; toy_kernels.h says what each computes.
#include "tests/cuda/toy_kernels.h"

#include "kernels/cuda/common.cuh"

namespace libtrain::kernels::toy {
namespace {

__global__ void block_sums_kernel(const float* x, float* y) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  y[i] = block_reduce<Sum, 128>(x[i]);
}

__global__ void mirror_warps_kernel(const float* x, float* y) {
  __shared__ float tile[4][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  tile[warp][lane] = x[blockIdx.x * 128 + threadIdx.x];
  __syncwarp();
  y[blockIdx.x * 128 + threadIdx.x] = tile[warp][31 - lane];
}

__global__ void warp_calls_kernel(uint32_t* out) {
  const unsigned lane = threadIdx.x, quad = 0xFu << (lane & 28);
  out[lane] = __shfl_sync(kAllLanes, lane * 3, 5);
  out[32 + lane] = __shfl_up_sync(kAllLanes, lane, 2);
  out[64 + lane] = __shfl_down_sync(kAllLanes, lane, 4, 8);
  out[96 + lane] = uint32_t(__shfl_xor_sync(kAllLanes, double(lane), 16));
  out[128 + lane] = __ballot_sync(kAllLanes, lane % 3 == 0);
  out[160 + lane] = uint32_t(__any_sync(quad, lane == 9));
  out[192 + lane] = uint32_t(__all_sync(quad, lane < 10));
  out[224 + lane] = __match_any_sync(kAllLanes, lane / 4 % 2);
  out[256 + lane] = __reduce_add_sync(kAllLanes, lane);
  out[288 + lane] = uint32_t(__reduce_min_sync(kAllLanes, 5 - int(lane)));
  out[320 + lane] = __reduce_max_sync(quad, 5u - lane);
  out[352 + lane] = __shfl_xor_sync(quad, lane, 3);
}

__global__ void barrier_votes_kernel(int* out, int limit) {
  const int below = int(threadIdx.x) < limit;
  int result = __syncthreads_count(below);
  result += 1000 * __syncthreads_or(below);
  result += 2000 * __syncthreads_and(below);
  out[threadIdx.x] = result;
}

__global__ void one_mma_kernel(const bf16* a, const bf16* b, float* c) {
  __shared__ __align__(16) bf16 rows_of_a[16][16], rows_of_b[8][16], columns_of_b[16][8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) rows_of_a[i / 16][i % 16] = a[i];
  for (int i = lane; i < 128; i += 32) {
    rows_of_b[i / 16][i % 16] = b[i];
    columns_of_b[i % 16][i / 16] = b[i];
  }
  __syncwarp();
  uint32_t fragment[4], from_rows[4], from_columns[4];
  ptx::ldmatrix_x4(fragment, &rows_of_a[lane % 16][lane / 16 * 8]);
  ptx::ldmatrix_x4(from_rows, &rows_of_b[lane % 8][lane / 8 % 2 * 8]);
  ptx::ldmatrix_x4_trans(from_columns, &columns_of_b[lane % 16][0]);
  float sums[4] = {}, other[4] = {};
  ptx::mma_bf16(sums, fragment, from_rows[0], from_rows[1]);
  ptx::mma_bf16(other, fragment, from_columns[0], from_columns[1]);
  const int row = lane / 4, column = lane % 4 * 2;
  for (int i = 0; i < 4; ++i) c[(row + i / 2 * 8) * 8 + column + i % 2] = sums[i] == other[i] ? sums[i] : NAN;
}

constexpr int kTile = 1024, kTileThreads = 128;

__device__ inline void start_tile(float* stage, const float* x, int64_t begin, int64_t count) {
  for (int i = threadIdx.x * 4; i < kTile; i += kTileThreads * 4) {
    const bool inside = begin + i < count;
    ptx::cp_async_16(stage + i, inside ? x + begin + i : x, inside ? 16 : 0);
  }
  ptx::cp_async_commit();
}

__global__ void pipelined_reverse_kernel(const float* x, float* y, int64_t count) {
  LIBTRAIN_DYNAMIC_SHARED(raw);
  float* stages = reinterpret_cast<float*>(raw);
  const int64_t tiles = (count + kTile - 1) / kTile;
  start_tile(stages, x, 0, count);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    start_tile(stages + (tile + 1) % 2 * kTile, x, (tile + 1) * kTile, count);
    ptx::cp_async_wait<1>();
    __syncthreads();
    for (int i = threadIdx.x; i < kTile; i += kTileThreads)
      if (tile * kTile + i < count) y[tile * kTile + i] = stages[tile % 2 * kTile + kTile - 1 - i];
    __syncthreads();
  }
  ptx::cp_async_wait<0>();
}

__global__ void histogram_kernel(const int32_t* values, int64_t count, int32_t* counts) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i < count) atomicAdd(&counts[values[i] % 8], 1);
}

__global__ void indices_kernel(uint32_t* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block << 16 | thread;
}

__global__ void large_shared_kernel(float* y, int64_t floats) {
  LIBTRAIN_DYNAMIC_SHARED(raw);
  float* values = reinterpret_cast<float*>(raw);
  for (int64_t i = threadIdx.x; i < floats; i += blockDim.x) values[i] = float(i);
  __syncthreads();
  for (int64_t i = threadIdx.x; i < floats; i += blockDim.x) y[i] = values[floats - 1 - i];
}

__global__ void doubled_kernel(const float* x, float* y, int64_t count) {
  const int64_t first = (blockIdx.y * int64_t(gridDim.x) + blockIdx.x) * int64_t(blockDim.x) + threadIdx.x;
  const int64_t step = int64_t(gridDim.x) * gridDim.y * blockDim.x;
  for (int64_t i = first; i < count; i += step) y[i] = 2 * x[i];
}

__global__ void copy_strided_kernel(const float* x, float* y, int stride) {
  const int i = blockIdx.x * 128 + threadIdx.x;
  y[i * stride] = x[i * stride];
}

__global__ void copy_packs_kernel(const float* x, float* y) {
  const int i = (blockIdx.x * 128 + threadIdx.x) * 4;
  store_pack(y + i, load_pack(x + i));
}

__global__ void copy_rereading_kernel(const float* x, float* y, int times) {
  const int i = blockIdx.x * 128 + threadIdx.x;
  float largest = -INFINITY;
  for (int time = 0; time < times; ++time) {
    largest = max(largest, x[i]);
    __syncwarp();
  }
  y[i] = largest;
}

__global__ void transpose_tile_kernel(const float* x, float* y, int pitch) {
  LIBTRAIN_DYNAMIC_SHARED(raw);
  float* tile = reinterpret_cast<float*>(raw);
  const int lane = threadIdx.x;
  for (int row = 0; row < 32; ++row) tile[row * pitch + lane] = x[row * 32 + lane];
  __syncwarp();
  for (int column = 0; column < 32; ++column) y[column * 32 + lane] = tile[lane * pitch + column];
}

__global__ void copy_twice_kernel(const float* x, float* y, float* z) {
  const int i = blockIdx.x * 128 + threadIdx.x;
  y[i] = x[i];
  __syncthreads();  // or the compiler would keep it
  z[i] = y[i];
}

__global__ void copy_unevenly_kernel(const float* x, float* y) {
  const int warp = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int turn = 0; turn < (warp % 2 ? 2 : 1); ++turn) {
    if (lane % 2 == turn) y[warp * 32 + lane] = x[warp * 32 + lane];
    __syncwarp();
  }
}

__global__ void only_barriers_kernel(int rounds) {
  for (int i = 0; i < rounds; ++i) __syncthreads();
}

__global__ void only_shuffles_kernel(int rounds, float* out) {
  float value = float(threadIdx.x);
  for (int i = 0; i < rounds; ++i) value = __shfl_xor_sync(kAllLanes, value, 1);
  if (value < 0) *out = value;
}

}  // namespace

void block_sums(Cuda where, const float* x, float* y, int64_t blocks) {
  launch(where, "block_sums", {unsigned(blocks), 128}, block_sums_kernel, x, y);
}
void mirror_warps(Cuda where, const float* x, float* y, int64_t blocks) {
  launch(where, "mirror_warps", {unsigned(blocks), 128}, mirror_warps_kernel, x, y);
}
void warp_calls(Cuda where, uint32_t* out) { launch(where, "warp_calls", {1, 32}, warp_calls_kernel, out); }
void barrier_votes(Cuda where, int* out, int threads, int limit) {
  launch(where, "barrier_votes", {1, unsigned(threads)}, barrier_votes_kernel, out, limit);
}
void one_mma(Cuda where, const bf16* a, const bf16* b, float* c) {
  launch(where, "one_mma", {1, 32}, one_mma_kernel, a, b, c);
}
void pipelined_reverse(Cuda where, const float* x, float* y, int64_t count) {
  launch(where, "pipelined_reverse", {1, kTileThreads, 2 * kTile * sizeof(float)}, pipelined_reverse_kernel, x, y,
         count);
}
void histogram(Cuda where, const int32_t* values, int64_t count, int32_t* counts) {
  launch(where, "histogram", {blocks_for(count, 256), 256}, histogram_kernel, values, count, counts);
}
void indices(Cuda where, uint32_t* out) {
  launch(where, "indices", {dim3(2, 3, 2), dim3(4, 2, 4)}, indices_kernel, out);
}
void large_shared(Cuda where, float* y, int64_t floats) {
  launch(where, "large_shared", {1, 256, size_t(floats) * sizeof(float)}, large_shared_kernel, y, floats);
}
void doubled(Cuda where, const float* x, float* y, int64_t count, unsigned grid, unsigned block, unsigned grid_y) {
  launch(where, "doubled", {dim3(grid, grid_y), block}, doubled_kernel, x, y, count);
}
void copy_strided(Cuda where, const float* x, float* y, int stride) {
  launch(where, "copy_strided", {4, 128}, copy_strided_kernel, x, y, stride);
}
void copy_packs(Cuda where, const float* x, float* y) {
  launch(where, "copy_packs", {4, 128}, copy_packs_kernel, x, y);
}
void copy_rereading(Cuda where, const float* x, float* y, int times) {
  launch(where, "copy_rereading", {4, 128}, copy_rereading_kernel, x, y, times);
}
void transpose_tile(Cuda where, const float* x, float* y, int pitch) {
  launch(where, "transpose_tile", {1, 32, 32 * size_t(pitch) * sizeof(float)}, transpose_tile_kernel, x, y, pitch);
}
void copy_twice(Cuda where, const float* x, float* y, float* z) {
  launch(where, "copy_twice", {4, 128}, copy_twice_kernel, x, y, z);
}
void copy_unevenly(Cuda where, const float* x, float* y) {
  launch(where, "copy_unevenly", {4, 128}, copy_unevenly_kernel, x, y);
}
void only_barriers(Cuda where, unsigned blocks, int rounds) {
  launch(where, "only_barriers", {blocks, 256}, only_barriers_kernel, rounds);
}
void only_shuffles(Cuda where, unsigned blocks, int rounds, float* out) {
  launch(where, "only_shuffles", {blocks, 256}, only_shuffles_kernel, rounds, out);
}

}  // namespace libtrain::kernels::toy
