// One kernel for each kind of bug within a block, correct when `planted` is false; planted_bugs.h says how each is to be found.
#include "tests/cuda/planted_runs.cuh"

namespace libtrain::kernels::planted {
namespace {

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

}  // namespace

const std::vector<Bug>& bugs() {
  constexpr auto kRight = ring<Copy::kRight>;
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
  };
  return all;
}

}  // namespace libtrain::kernels::planted
