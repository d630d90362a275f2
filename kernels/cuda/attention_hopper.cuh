/// What the kernels of attention for Hopper share: tiles as TMA lays them out, a ring of them between one warp that brings and eight that
/// multiply, and products by wgmma. A warp's part of a wgmma is the strip of 16 rows that mma.sync has: what is done with scores is the same.
#pragma once
#include "hopper.cuh"
#include "kernels/cuda/attention_blocks.cuh"

namespace libtrain::kernels::attention_hopper {

using namespace attention_fragments;

constexpr int kGroup = 4 * kWarp;  // threads of a warpgroup
constexpr int kGroupRows = 64;     // of a warpgroup: those of a wgmma
constexpr int kConsumers = kRows / kGroupRows * kGroup;
constexpr int kThreads = kConsumers + kGroup;  // the first warp of the last warpgroup brings tiles, the others leave
constexpr int kPanel = 64;                     // columns: 128 bytes, over which TMA and wgmma permute the chunks
// Registers of a thread, 64 Ki a multiprocessor in all: launched with 168, those who multiply get what the others give up.
constexpr int kBringingRegisters = 40, kMultiplyingRegisters = 232;

/// `rows` rows of D elements: one panel behind the other.
template <int D, int rows> struct PanelTile {
  static constexpr int kPanels = D / kPanel, kPanelElements = rows * kPanel;
  static constexpr unsigned kPanelBytes = kPanelElements * sizeof(bf16), kBytes = kPanels * kPanelBytes;

  bf16* data;

  /// 16 bytes of a row.
  __device__ bf16* chunk(int row, int number) const {
    return data + number / 8 * kPanelElements + row * kPanel + (number % 8 ^ (row & 7)) * 8;
  }
  /// Operand: the k-th 16 columns, of rows from `row` on, a multiple of 8.
  __device__ uint64_t columns(int row, int k) const {
    return ptx::wgmma_descriptor(data + k / 4 * kPanelElements + row * kPanel + k % 4 * kStrip);
  }
  /// Operand: the k-th 16 rows, transposed.
  __device__ uint64_t transposed_rows(int k) const {
    return ptx::wgmma_descriptor_transposed(data + k * kStrip * kPanel, kPanelBytes);
  }
  /// Starts bringing the rows from `row` on: kBytes, which `barrier` has been told of. One thread, as the next.
  __device__ void copy(const ptx::TensorMap& map, int column, int row, uint64_t* barrier) const {
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel)
      ptx::tma_load(data + panel * kPanelElements, map, column + panel * kPanel, row, barrier);
  }
  /// Likewise, as an arrival at the barrier.
  __device__ void load(const ptx::TensorMap& map, int column, int row, uint64_t* barrier) const {
    ptx::mbarrier_arrive_expect_tx(barrier, kBytes);
    copy(map, column, row, barrier);
  }
  /// Zeroes rows from `first` on, for wgmma to see. Warp.
  __device__ void clear(int first) const {
    for (int i = first * (D / 8) + lane(); i < rows * (D / 8); i += kWarp)
      store_16(chunk(i / (D / 8), i % (D / 8)), make_uint4(0, 0, 0, 0));
    ptx::fence_proxy_async();
  }
};

/// Of a block, whose ring has so many slots.
template <int slots> struct Barriers {
  uint64_t own;                        // the tiles that the block keeps
  uint64_t cut;                        // a tile that goes beyond its sequence, until it has been cleared there
  uint64_t full[slots], empty[slots];  // of the ring
};

template <int slots> __device__ inline void init(Barriers<slots>& barriers) {
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barriers.own, 1);
    ptx::mbarrier_init(&barriers.cut, 1);
    for (int slot = 0; slot < slots; ++slot) {
      ptx::mbarrier_init(&barriers.full[slot], 1);
      ptx::mbarrier_init(&barriers.empty[slot], kConsumers / kWarp);
    }
    ptx::mbarrier_fence_init();
  }
  __syncthreads();
}

/// Tiles of two matrices by turns, k and v or q and dout: the step that brings a tile uses slot step % slots.
template <int D, int rows, int slots> struct Ring {
  bf16* data;
  Barriers<slots>& barriers;

  __device__ PanelTile<D, rows> tile(int step) const { return {data + step % slots * rows * D}; }

  /// For those who multiply: until the tile is there, and when a warp has done with it.
  __device__ void wait(int step) const { ptx::mbarrier_wait(&barriers.full[step % slots], step / slots % 2); }
  __device__ void release(int step) const {
    __syncwarp();
    if (lane() == 0) ptx::mbarrier_arrive(&barriers.empty[step % slots]);
  }

  /// For a warpgroup that has no use for the tiles of steps [begin, end).
  __device__ void let_pass(int begin, int end) const {
#pragma unroll 1
    for (int step = begin; step < end; ++step) {
      wait(step);
      release(step);
    }
  }

  /// For the warp that brings: until the slot is free.
  __device__ void claim(int step) const { ptx::mbarrier_wait(&barriers.empty[step % slots], step / slots % 2 ^ 1); }
  /// Brings the rows from `row` on. Of a matrix whose rows are summed over, only the first `count` are the sequence's: what lies behind is
  /// another's, or nobody's and NaN, which a probability of 0 does not undo. It becomes zero; `cuts` counts how often.
  __device__ void bring(int step, const ptx::TensorMap& map, int column, int64_t row, int count, int& cuts) const {
    uint64_t* const full = &barriers.full[step % slots];
    const bool whole = count >= rows;
    if (lane() == 0) tile(step).load(map, column, int(row), whole ? full : &barriers.cut);
    if (whole) return;
    ptx::mbarrier_wait(&barriers.cut, cuts++ % 2);
    tile(step).clear(count);
    __syncwarp();
    if (lane() == 0) ptx::mbarrier_arrive(full);
  }
};

/// result = 64 rows of x from x_row on, times rows of y, transposed. Warpgroup; until wgmma_wait, result must be left alone.
template <int D, int x_rows, int columns> __device__ inline void start_product(Fragment<columns>& result,
                                                                               PanelTile<D, x_rows> x, int x_row,
                                                                               PanelTile<D, columns> y) {
#pragma unroll
  for (int k = 0; k < D / kStrip; ++k)
    ptx::wgmma<columns, false, false>(result.at, x.columns(x_row, k), y.columns(0, k), k > 0);
}

/// x, rounded to bf16, as the first factor of a product.
template <int columns> struct Factor {
  uint32_t at[columns / kStrip][4];

  __device__ void pack(const Fragment<columns>& x) {
#pragma unroll
    for (int k = 0; k < columns / kStrip; ++k) pack_factor(at[k], x, k);
  }
};

/// result += x times y. Likewise.
template <int D, int columns>
__device__ inline void start_adding(Fragment<D>& result, const Factor<columns>& x, PanelTile<D, columns> y) {
#pragma unroll
  for (int k = 0; k < columns / kStrip; ++k) ptx::wgmma<D, true>(result.at, x.at[k], y.transposed_rows(k), true);
}

/// Boxes of `box_rows` rows and a panel's columns.
template <int D> ptx::TensorMap map_of(const Attention<bf16>& a, PackedRows<const bf16> x, int64_t rows, int box_rows) {
  return ptx::tensor_map(x.data, rows, a.heads * D, x.stride, box_rows, kPanel);
}

/// Calls f.operator()<D>() for one of the head sizes that these kernels exist for.
template <class F> void for_hopper_head_size(int64_t head_dim, const F& f) {
  if (head_dim == 64) f.template operator()<64>();
  if (head_dim == 128) f.template operator()<128>();
}

}  // namespace libtrain::kernels::attention_hopper
