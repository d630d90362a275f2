/// A warp-specialized product by TMA and wgmma, for tests of their execution: c[64 kConsumers, kN] = a b, from tiles of 64 of K that one
/// thread brings into a ring of kStages stages and kConsumers warpgroups consume. `Slip` plants a bug in it.
#pragma once
#include "hopper.cuh"
#include "kernels/cuda/common.cuh"

namespace libtrain::kernels::hopper {

enum class Slip {
  kNone,
  kNoFullWait,
  kWrongParity,
  kNoEmptyWait,
  kEmptyBeforeWait,
  kNoProductWait,
  kNoProductFence,
  kFewBytes,
  kManyBytes,
  kNoInitFence,
  kTouched,
  kRead,
  kRowInPattern,
  kNextColumns,
  kWrongPanel,
  kOtherThreads,
  kNoWarpSync,
  kOneLaneWaits,
  kThreeWarps,
  kGivenBackUnderWay,
  kPatched,
  kPatchedWithoutFence
};

enum class From { kShared, kRegisters };
/// kDepth: groups of wgmma that may be under way while the next tile begins.
template <int kColumns, bool kTransposed, From kFrom, int kStageCount, int kConsumerCount = 1, int kDepth = 0>
struct Product {
  static constexpr int kN = kColumns, kStages = kStageCount, kConsumers = kConsumerCount, kUnderWay = kDepth;
  static constexpr bool kTransposeB = kTransposed, kRegistersA = kFrom == From::kRegisters;
  static constexpr int kTile = 64, kRowBytes = kTile * 2;
  static constexpr int kPanels = kTransposeB ? (kN + 63) / 64 : 1;
  static constexpr int kBytesOfA = kConsumers * 64 * kRowBytes;
  static constexpr int kRowsOfB = kTransposeB ? kTile : kN, kPanelBytes = kRowsOfB * kRowBytes;
  static constexpr int kStageBytes = kBytesOfA + kPanels * kPanelBytes;
  static constexpr int kThreads = 128 + kConsumers * 128;
  static constexpr int kBarriers = kStages * kStageBytes;  // where they lie
  static constexpr size_t kSharedBytes = kBarriers + 2 * kStages * 8;
};

template <class P> struct Ring {
  unsigned char* shared;

  __device__ unsigned char* a(int tile) const { return shared + tile % P::kStages * P::kStageBytes; }
  __device__ unsigned char* b(int tile) const { return a(tile) + P::kBytesOfA; }
  __device__ uint64_t* full(int tile) const {
    return reinterpret_cast<uint64_t*>(shared + P::kBarriers) + tile % P::kStages;
  }
  __device__ uint64_t* empty(int tile) const { return full(tile) + P::kStages; }
  __device__ unsigned parity(int tile) const { return tile / P::kStages & 1; }
};

template <class P, Slip slip>
__device__ inline void produce(const ptx::TensorMap& a, const ptx::TensorMap& b, Ring<P> ring, int tiles, int period) {
  constexpr int kBytes = P::kStageBytes + (slip == Slip::kFewBytes    ? -P::kPanelBytes
                                           : slip == Slip::kManyBytes ? 16
                                                                      : 0);
  for (int tile = 0; tile < tiles; ++tile) {
    const int column = tile % period * P::kTile;
    if (slip != Slip::kNoEmptyWait) ptx::mbarrier_wait(ring.empty(tile), ring.parity(tile) ^ 1);
    ptx::mbarrier_arrive_expect_tx(ring.full(tile), kBytes);
    for (int w = 0; w < P::kConsumers; ++w)
      ptx::tma_load(ring.a(tile) + w * 64 * P::kRowBytes, a, column, w * 64, ring.full(tile));
    for (int panel = 0; panel < P::kPanels; ++panel)
      ptx::tma_load(ring.b(tile) + panel * P::kPanelBytes, b, P::kTransposeB ? panel * 64 : column,
                    P::kTransposeB ? column : 0, ring.full(tile));
  }
}

/// A's fragment of 16 columns from `k` on, of a warp's 16 rows.
__device__ inline void load_fragment(uint32_t (&a)[4], const unsigned char* rows, int k) {
  const int lane = threadIdx.x % 32, row = lane % 16, piece = k / 8 + lane / 16;
  ptx::ldmatrix_x4(a, rows + row * 128 + ((piece ^ row % 8) * 16));
}

template <class P, Slip slip> __device__ inline uint64_t descriptor_of_b(Ring<P> ring, int tile, int k) {
  const int off = slip == Slip::kRowInPattern ? 128 : slip == Slip::kNextColumns && k == 0 ? 32 : 0;
  if constexpr (P::kTransposeB)
    return ptx::wgmma_descriptor_transposed(ring.b(tile) + k * P::kRowBytes + off,
                                            slip == Slip::kWrongPanel ? 1024 : P::kPanelBytes);
  else
    return ptx::wgmma_descriptor(ring.b(tile) + k * 2 + off);
}

/// Writes each warp's first row of A again, by ordinary stores.
__device__ inline void patch(unsigned char* rows, bool fence) {
  unsigned char* const own = rows + threadIdx.x % 128 / 32 * 2048 + threadIdx.x % 8 * 16;
  if (threadIdx.x % 32 < 8) store_16(own, load_16(own));
  if (fence) ptx::fence_proxy_async();
  __syncwarp();
}

/// 0, unless it is meant to be wrong.
template <class P, Slip slip>
__device__ inline float multiply(float (&d)[P::kN / 8][4], Ring<P> ring, int tile, int own) {
  unsigned char* const rows = ring.a(tile) + own * 64 * P::kRowBytes;
  if (slip == Slip::kPatched || slip == Slip::kPatchedWithoutFence) patch(rows, slip == Slip::kPatched);
  uint32_t a[4][4];
  if constexpr (P::kRegistersA) {
    for (int k = 0; k < 4; ++k) load_fragment(a[k], rows + threadIdx.x % 128 / 32 * 16 * P::kRowBytes, k * 16);
    if (slip != Slip::kNoProductFence || tile == 0) ptx::wgmma_fence(d, a);
  } else {
    if (slip != Slip::kNoProductFence || tile == 0) ptx::wgmma_fence(d);
  }
  for (int k = 0; k < 4; ++k) {
    const uint64_t b = descriptor_of_b<P, slip>(ring, tile, k * 16);
    if constexpr (P::kRegistersA)
      ptx::wgmma<P::kN, P::kTransposeB>(d, a[k], b, tile + k > 0);
    else
      ptx::wgmma<P::kN, false, P::kTransposeB>(d, ptx::wgmma_descriptor(rows + k * 32),
                                               slip == Slip::kOtherThreads && threadIdx.x % 128 == 77 ? b + 2 : b,
                                               tile + k > 0);
  }
  ptx::wgmma_commit();
  if (slip == Slip::kTouched) d[0][0] = 1;
  return slip == Slip::kRead ? d[1][1] : 0.0f;
}

template <class P, Slip slip>
__device__ inline void consume(float (&d)[P::kN / 8][4], Ring<P> ring, int tiles, int own) {
  const bool speaks = threadIdx.x % 32 == 0 && (slip != Slip::kThreeWarps || threadIdx.x % 128 / 32 != 1);
  for (int tile = 0; tile < tiles; ++tile) {
    if (slip != Slip::kNoFullWait && (slip != Slip::kOneLaneWaits || speaks))
      ptx::mbarrier_wait(ring.full(tile), ring.parity(tile) ^ unsigned(slip == Slip::kWrongParity));
    const float early = multiply<P, slip>(d, ring, tile, own);
    if (slip == Slip::kEmptyBeforeWait && speaks) ptx::mbarrier_arrive(ring.empty(tile));
    if (slip != Slip::kNoProductWait) ptx::wgmma_wait<P::kUnderWay>(d);
    if (P::kRegistersA && slip != Slip::kNoWarpSync)
      __syncwarp();  // the lanes' own reads, which one of them speaks for
    if (slip != Slip::kEmptyBeforeWait && speaks && tile >= P::kUnderWay)
      ptx::mbarrier_arrive(ring.empty(tile - (slip == Slip::kGivenBackUnderWay && tile > 1 ? 0 : P::kUnderWay)));
    if (slip == Slip::kGivenBackUnderWay && speaks && tile == 1) ptx::mbarrier_arrive(ring.empty(tile));
    if (slip == Slip::kRead) d[1][1] += early;
  }
  if (P::kUnderWay || slip == Slip::kNoProductWait) ptx::wgmma_wait<0>(d);
}

/// c [64 kConsumers, kN]; `a` and `b` are read from column 64 (tile % period) of K on.
template <class P, Slip slip = Slip::kNone> __global__ void __launch_bounds__(P::kThreads, 1)
    product(const __grid_constant__ ptx::TensorMap a, const __grid_constant__ ptx::TensorMap b, float* c, int tiles,
            int period) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  const Ring<P> ring{shared};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < P::kStages; ++stage) {
      ptx::mbarrier_init(ring.full(stage), 1);
      ptx::mbarrier_init(ring.empty(stage), P::kConsumers * (slip == Slip::kThreeWarps ? 3 : 4));
    }
    if (slip != Slip::kNoInitFence) ptx::mbarrier_fence_init();
  }
  __syncthreads();
  const int group = threadIdx.x / 128;
  if (group == 0) {
    ptx::setmaxnreg_dec<40>();
    if (threadIdx.x == 0) produce<P, slip>(a, b, ring, tiles, period);
    return;
  }
  ptx::setmaxnreg_inc<160>();
  float d[P::kN / 8][4] = {};
  consume<P, slip>(d, ring, tiles, group - 1);
  const int lane = threadIdx.x % 32, row = int(threadIdx.x / 32 - 4) * 16 + lane / 4;
  for (int n = 0; n < P::kN / 8; ++n)
    for (int e = 0; e < 4; ++e) c[(row + e / 2 * 8) * P::kN + n * 8 + lane % 4 * 2 + e % 2] = d[n][e];
}

template <class P, Slip slip = Slip::kNone>
void run_product(Cuda where, const bf16* a, const bf16* b, float* c, int k, int tiles, int period) {
  const auto map_a = ptx::tensor_map(a, 64 * P::kConsumers, k, k, 64, 64);
  const auto map_b =
      P::kTransposeB ? ptx::tensor_map(b, k, P::kN, P::kN, 64, 64) : ptx::tensor_map(b, P::kN, k, k, P::kN, 64);
  launch(where, "product", {1, P::kThreads, P::kSharedBytes}, product<P, slip>, map_a, map_b, c, tiles, period);
}

}  // namespace libtrain::kernels::hopper
