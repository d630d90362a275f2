// One kernel for each kind of bug, correct when `planted` is false; planted_bugs.h says how each is to be found.
#include "tests/cuda/planted_bugs.h"

#include "kernels/cuda/common.cuh"

namespace libtrain::kernels::planted {
namespace {

constexpr int kThreads = 128;

// ---- Barriers --------------------------------------------------------------------------------------------------------
/// The block's sum by way of shared memory. `first`: whether to meet before reading; `second`: before the next one writes.
__device__ inline float block_sum(float value, bool first, bool second) {
  __shared__ float of_warp[kThreads / 32];
  value = warp_reduce<Sum>(value);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  if (first) __syncthreads();
  float total = 0;
  for (float part : of_warp) total += part;
  if (second) __syncthreads();
  return total;
}

template <bool planted> __global__ void sum_without_barrier(const float* x, float* y) {
  y[threadIdx.x] = block_sum(x[threadIdx.x], !planted, true);
}

template <bool planted> __global__ void two_sums(const float* x, float* y) {
  const float one = block_sum(x[threadIdx.x], true, !planted);
  y[threadIdx.x] = one + block_sum(2 * x[threadIdx.x], true, true);
}

template <bool planted> __global__ void broadcast(const float* x, float* y) {
  __shared__ float value;
  if (threadIdx.x == 0) value = x[5];
  if (!planted) __syncthreads();
  y[threadIdx.x] = value;
}

template <bool planted> __global__ void divergent_barrier(const float* x, float* y) {
  __shared__ float tile[kThreads];
  tile[threadIdx.x] = x[threadIdx.x];
  if (planted && threadIdx.x < 64) {
    tile[threadIdx.x] += 0;
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}

template <bool planted> __global__ void skipped_barrier(const float* x, float* y) {
  __shared__ float tile[kThreads];
  tile[threadIdx.x] = x[threadIdx.x];
  if (!planted || threadIdx.x < 96) __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

template <bool planted> __global__ void early_return(const float* x, float* y) {
  __shared__ float tile[kThreads];
  if (planted && threadIdx.x >= 96) return;
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

/// x[i] = x[i] - x[1]: x[1] is read by all and overwritten by one.
template <bool planted> __global__ void overwrite_in_place(float* x, float* y) {
  const float first = x[1], own = x[threadIdx.x];
  if (!planted) __syncthreads();
  x[threadIdx.x] = own - first;
  y[threadIdx.x] = own - first;
}

template <bool planted> __global__ void uninitialized_shared(const float* x, float* y) {
  __shared__ float sums[2 * kThreads];
  for (int i = threadIdx.x; i < (planted ? kThreads : 2 * kThreads); i += kThreads) sums[i] = 0;
  __syncthreads();
  sums[threadIdx.x] += x[threadIdx.x];
  sums[kThreads + threadIdx.x] += x[threadIdx.x];
  y[threadIdx.x] = sums[threadIdx.x] + sums[kThreads + threadIdx.x];
}

// ---- cp.async --------------------------------------------------------------------------------------------------------
enum class Copy { kRight, kNoWait, kNoBarrier, kRefilledEarly, kOneShort };

/// y = x with each tile of 512 reversed, through a ring of two stages.
template <Copy how> __global__ void ring(const float* x, float* y) {
  constexpr int kTile = 4 * kThreads, kTiles = kCount / kTile;
  __shared__ __align__(16) float stages[2][kTile];
  const auto start = [&](int tile) {
    if (tile < kTiles) ptx::cp_async_16(&stages[tile % 2][threadIdx.x * 4], x + tile * kTile + threadIdx.x * 4);
    ptx::cp_async_commit();
  };
  start(0);
  for (int tile = 0; tile < kTiles; ++tile) {
    if (how == Copy::kRefilledEarly || tile == 0) start(tile + 1);
    if (how == Copy::kOneShort)
      ptx::cp_async_wait<2>();
    else if (how != Copy::kNoWait)
      ptx::cp_async_wait<1>();
    if (how != Copy::kNoBarrier) __syncthreads();
    for (int i = threadIdx.x; i < kTile; i += kThreads) y[tile * kTile + i] = stages[tile % 2][kTile - 1 - i];
    if (how != Copy::kRefilledEarly) __syncthreads();
    if (how != Copy::kRefilledEarly) start(tile + 2);
  }
  if (how == Copy::kNoWait || how == Copy::kOneShort) ptx::cp_async_wait<0>();
}

template <bool planted> __global__ void returns_with_copy(const float* x, float* y) {
  __shared__ __align__(16) float tile[4 * kThreads];
  ptx::cp_async_16(&tile[threadIdx.x * 4], x + threadIdx.x * 4);
  ptx::cp_async_commit();
  if (!planted) ptx::cp_async_wait<0>();
  y[threadIdx.x] = x[threadIdx.x];
}

// ---- Warps -----------------------------------------------------------------------------------------------------------
template <bool planted> __global__ void warp_exchange(const float* x, float* y) {
  __shared__ float tile[kThreads / 32][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  tile[warp][lane] = x[threadIdx.x];
  if (!planted) __syncwarp();
  y[threadIdx.x] = tile[warp][31 - lane];
}

template <bool planted> __global__ void wrong_mask(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x] + __shfl_xor_sync(planted ? 0xFFFFu : kAllLanes, x[threadIdx.x], 1);
}

template <bool planted> __global__ void source_outside_mask(const float* x, float* y) {
  const unsigned quad = 0xFu << (threadIdx.x & 28);
  y[threadIdx.x] = x[threadIdx.x] + __shfl_xor_sync(quad, x[threadIdx.x], planted ? 4 : 2);
}

template <bool planted> __global__ void different_calls(const float* x, float* y) {
  float value = x[threadIdx.x];
  if (planted && threadIdx.x % 32 < 16)
    value += float(__ballot_sync(kAllLanes, 1) != 0);
  else
    value += __shfl_xor_sync(kAllLanes, value, 1);
  y[threadIdx.x] = value;
}

/// Legal: each group of four lanes has a mask of its own, and groups get there at different times.
template <bool planted> __global__ void quad_masks(const float* x, float* y) {
  __shared__ float tile[kThreads];
  const unsigned quad = 0xFu << (threadIdx.x & 28);
  float value = x[threadIdx.x];
  if (planted && threadIdx.x % 8 < 4) value += __shfl_xor_sync(quad, value, 1);
  if (planted && threadIdx.x % 8 >= 4) value += __shfl_xor_sync(quad, value, 1);
  if (!planted) value += __shfl_xor_sync(kAllLanes, value, 1);
  tile[threadIdx.x] = value;
  if (planted)
    __syncwarp(quad);
  else
    __syncwarp();
  y[threadIdx.x] = tile[threadIdx.x ^ 3];
}

// ---- Addresses -------------------------------------------------------------------------------------------------------
template <bool planted> __global__ void reads_past_end(const float* x, float* y, int64_t count) {
  const int64_t i = int64_t(threadIdx.x) * 4 + count - kThreads * 4 + (planted ? 4 : 0);
  const Pack<float> pack = load_pack(x + i);
  y[threadIdx.x] = pack.at[0] + pack.at[3] + (planted ? 0 : 1);
}

template <bool planted> __global__ void writes_past_end(const float* x, float* y, int64_t count) {
  for (int64_t i = threadIdx.x; i < count + (planted ? 1 : 0); i += kThreads) y[i] = i < count ? x[i] : 0.0f;
}

template <bool planted> __global__ void leaves_last(const float* x, float* y, int64_t count) {
  for (int64_t i = threadIdx.x; i < count - (planted ? 1 : 0); i += kThreads) y[i] = x[i] + 1;
}

template <bool planted> __global__ void index_past_row(const float* x, float* y) {
  __shared__ float tile[kThreads / 32][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  tile[warp][lane] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[warp][planted ? lane + 1 : lane];
}

template <bool planted> __global__ void past_dynamic_shared(const float* x, float* y) {
  LIBTRAIN_DYNAMIC_SHARED(raw);
  float* tile = reinterpret_cast<float*>(raw);
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[planted ? threadIdx.x + 1 : threadIdx.x];
}

template <bool planted> __global__ void misaligned_vector(const float* x, float* y) {
  const Pack<float> pack = load_pack(x + threadIdx.x * 4 + (planted ? 1 : 0));
  y[threadIdx.x] = pack.at[0];
}

template <bool planted> __global__ void misaligned_scalar(const float* x, float* y) {
  const auto* odd = reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + (planted ? 2 : 4));
  y[threadIdx.x] = odd[threadIdx.x];
}

template <bool planted> __global__ void misaligned_ldmatrix(const float* x, float* y) {
  __shared__ __align__(16) float rows[32 * 4 + 4];
  const int lane = threadIdx.x;
  for (int i = lane; i < 32 * 4 + 4; i += 32) rows[i] = x[i];
  __syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, rows + lane * 4 + (planted ? 1 : 0));
  y[lane] = float(r[0] + r[1] + r[2] + r[3]);
}

__global__ void copy_all(const float* x, float* y, int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += kThreads) y[i] = x[i] + 1;
}

// ---- Between blocks --------------------------------------------------------------------------------------------------
template <bool planted> __global__ void counts_between_blocks(const float* x, float* y) {
  auto* total = reinterpret_cast<int*>(y);
  const int share = int(block_sum(x[blockIdx.x * kThreads + threadIdx.x], true, true));
  if (threadIdx.x != 0) return;
  if (planted)
    *total += share;
  else
    atomicAdd(total, share);
}

template <bool planted> __global__ void reads_neighbour_block(const float* x, float* y) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  y[i] = x[i];
  const unsigned other = planted ? i ^ kThreads : i;
  y[kCount / 2 + i] = y[other];
}

enum class LastBlock { kRight, kNoFence, kNoAcquire, kPlainCounter };

/// y[0] = sum of x: blocks leave partial sums behind a counter, and the last one adds them up in order.
template <LastBlock how> __global__ void last_block_adds(const float* x, float* y) {
  __shared__ bool last;
  auto* done = reinterpret_cast<unsigned*>(y + 1);
  float* partial = y + 2;
  partial[blockIdx.x * kThreads + threadIdx.x] = x[blockIdx.x * kThreads + threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) {
    if (how != LastBlock::kNoFence) __threadfence();
    if (how == LastBlock::kPlainCounter)
      last = (*done)++ == gridDim.x - 1;
    else
      last = atomicAdd(done, 1u) == gridDim.x - 1;
    if (how != LastBlock::kNoAcquire) __threadfence();
  }
  __syncthreads();
  if (!last) return;
  float sum = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x * kThreads; i += kThreads) sum += partial[i];
  y[kCount / 2 + threadIdx.x] = sum;
  if (threadIdx.x == 0) *done = 0;
}

/// The same, warp by warp: y[kCount / 2 + lane] = sum of x over the warps of all blocks, by the last warp to arrive.
template <bool planted> __global__ void last_warp_adds(const float* x, float* y) {
  const unsigned lane = threadIdx.x % 32, warps = gridDim.x * blockDim.x / 32;
  auto* done = reinterpret_cast<unsigned*>(y + 1);
  float* partial = y + 2;
  unsigned before = 0;
  partial[blockIdx.x * kThreads + threadIdx.x] = x[blockIdx.x * kThreads + threadIdx.x];
  __syncthreads();
  if (lane == 0) {
    __threadfence();
    before = atomicAdd(done, 1u);
    __threadfence();
  }
  if (!planted) __syncwarp();
  if (__shfl_sync(0xFFFFFFFFu, before, 0) != warps - 1) return;
  float sum = 0;
  for (unsigned i = lane; i < gridDim.x * kThreads; i += 32) sum += partial[i];
  y[kCount / 2 + lane] = sum;
}

// ---- How each is started ---------------------------------------------------------------------------------------------
/// One block of `kThreads` threads, on x and y.
template <auto bug, auto right> void run(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, kThreads, kThreads * sizeof(float)}, planted ? bug : right, x, y);
}
template <auto bug, auto right> void run_warp(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, 32}, planted ? bug : right, x, y);
}
template <auto bug, auto right> void run_blocks(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {4, kThreads}, planted ? bug : right, x, y);
}
template <auto bug, auto right> void run_counted(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, kThreads}, planted ? bug : right, x, y, kCount);
}

void use_after_free(Cuda where, bool planted, float* x, float* y) {
  auto* block = static_cast<float*>(runtime::allocate_device(kCount * int64_t(sizeof(float))));
  runtime::copy(block, x, kCount * sizeof(float), where);
  if (planted) runtime::free_device(block);
  launch(where, "planted", {1, kThreads}, copy_all, block, y, kCount);
  if (!planted) runtime::free_device(block);
}

void host_memory(Cuda where, bool planted, float* x, float* y) {
  static float host[kCount];
  launch(where, "planted", {1, kThreads}, copy_all, planted ? host : x, y, kCount);
}

void pinned_memory(Cuda where, bool planted, float* x, float* y) {
  auto* pinned = static_cast<float*>(runtime::allocate_pinned(kCount * int64_t(sizeof(float))));
  launch(where, "planted", {1, kThreads}, copy_all, planted ? pinned : x, y, kCount);
  runtime::free_pinned(pinned);
}

}  // namespace

#define BOTH(run, kernel) run<kernel<true>, kernel<false>>
const std::vector<Bug>& bugs() {
  constexpr auto kRight = ring<Copy::kRight>;
  constexpr auto kLastRight = last_block_adds<LastBlock::kRight>;
  static const std::vector<Bug> all{
      {"missing barrier in a block's sum", "", "race: |has not written", BOTH(run, sum_without_barrier)},
      {"missing barrier between two sums", "", "race: write of 4 bytes", BOTH(run, two_sums)},
      {"missing barrier before a broadcast is read", "", "race: |has not written", BOTH(run, broadcast)},
      {"barriers on two lines", "divergent barriers", "divergent barriers", BOTH(run, divergent_barrier)},
      {"barrier that some threads skip", "deadlock", "", BOTH(run, skipped_barrier)},
      {"barrier after some threads have returned", "have returned", "have returned", BOTH(run, early_return)},
      {"missing barrier before an overwrite in place", "", "race: ", BOTH(run, overwrite_in_place)},
      {"shared memory that nobody has set", "", "has not written", BOTH(run, uninitialized_shared)},
      {"missing wait for cp.async", "", "has not waited for", run<ring<Copy::kNoWait>, kRight>},
      {"wait for one group too few", "", "has not waited for", run<ring<Copy::kOneShort>, kRight>},
      {"missing barrier behind the wait for cp.async", "", "race: |has not written|cp.async",
       run<ring<Copy::kNoBarrier>, kRight>},
      {"stage filled again before all have read it", "", "race: |has not waited for",
       run<ring<Copy::kRefilledEarly>, kRight>},
      {"return with a cp.async under way", "under way", "under way", BOTH(run, returns_with_copy)},
      {"missing __syncwarp", "", "race: |has not written", BOTH(run, warp_exchange)},
      {"mask without the calling lane", "not in its own mask", "not in its own mask", BOTH(run, wrong_mask)},
      {"shuffle from outside the mask", "not in the mask", "not in the mask", BOTH(run, source_outside_mask)},
      {"lanes in different warp-wide calls", "wait in", "wait in", BOTH(run, different_calls)},
      {"masks of four lanes (legal)", nullptr, nullptr, BOTH(run, quad_masks)},
      {"vector read past the end", "", "out of bounds", BOTH(run_counted, reads_past_end)},
      {"write past the end", nullptr, "out of bounds", BOTH(run_counted, writes_past_end)},
      {"last element left out", "", nullptr, BOTH(run_counted, leaves_last)},
      {"index past a row of static shared memory", "", "index 32 out of bounds", BOTH(run, index_past_row)},
      {"index past dynamic shared memory", "", "out of bounds", BOTH(run, past_dynamic_shared)},
      {"misaligned vector", "misaligned", "misaligned", BOTH(run, misaligned_vector)},
      {"misaligned element", "", "misaligned", BOTH(run, misaligned_scalar)},
      {"misaligned row for ldmatrix", "multiple of 16", "multiple of 16", BOTH(run_warp, misaligned_ldmatrix)},
      {"use after free", "", "freed block", use_after_free},
      {"memory of the host", "", "memory of the host", host_memory},
      {"pinned memory of the host", "", "memory of the host", pinned_memory},
      {"plain += between blocks", nullptr, "another block", BOTH(run_blocks, counts_between_blocks)},
      {"what another block has written", "", "another block", BOTH(run_blocks, reads_neighbour_block)},
      {"last block done without a fence", nullptr, "another block",
       run_blocks<last_block_adds<LastBlock::kNoFence>, kLastRight>},
      {"last block done without a fence behind the counter", nullptr, "another block",
       run_blocks<last_block_adds<LastBlock::kNoAcquire>, kLastRight>},
      {"last block done by a plain counter", nullptr, "another block",
       run_blocks<last_block_adds<LastBlock::kPlainCounter>, kLastRight>},
      {"last warp done without __syncwarp behind the counter", nullptr, "another block",
       BOTH(run_blocks, last_warp_adds)},
  };
  return all;
}

}  // namespace libtrain::kernels::planted
