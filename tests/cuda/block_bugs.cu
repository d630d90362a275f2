// Bugs between blocks, as in planted_bugs.cu.
#include "tests/cuda/planted_runs.cuh"

namespace libtrain::kernels::planted {
namespace {

template <bool planted> __global__ void counts_between_blocks(const float* x, float* y) {
  auto* total = reinterpret_cast<int*>(y);
  const int share = int(x[blockIdx.x * kThreads + threadIdx.x]);
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

}  // namespace

const std::vector<Bug>& block_bugs() {
  constexpr auto kLastRight = last_block_adds<LastBlock::kRight>;
  static const std::vector<Bug> all{
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
