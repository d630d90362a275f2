/// What the kernels of attention for short sequences share: how a block is made up, and how the longest sequence chooses among them.
#pragma once
#include "kernels/cuda/attention_strips.cuh"

namespace libtrain::kernels::attention_short {

using namespace attention_fragments;

/// How a block is made up whose sequences have up to `strips` times 16 rows: 1, 2, 3, 4 or 8. Known to the compiler, for then most of
/// the addresses in shared memory are constants.
template <int strips> struct Shape {
  static constexpr int kStrips = strips, kRows = strips * kStrip, kThreads = strips * kWarp;  // of a unit
  static constexpr int kUnits = strips < 4 ? 4 / strips : 1;                                  // of a block
};

/// A warp's place in its block, and its unit; units that do not exist have no rows.
struct Place {
  AttentionUnit unit;
  int group;   // of warps, one unit each
  int first;   // row of the warp's strip
  int thread;  // in the group
};

template <class Of> __device__ inline Place place_of(const Attention<bf16>& a, unsigned units) {
  const int group = int(threadIdx.x) / Of::kThreads, thread = int(threadIdx.x) % Of::kThreads;
  const unsigned index = blockIdx.x * Of::kUnits + unsigned(group);
  return {index < units ? attention_unit(a, index) : AttentionUnit{}, group, thread / kWarp * kStrip, thread};
}

/// Starts copying all rows of a head to a tile.
template <class Of, int D>
__device__ inline void load_all(RowTile<D> tile, const HeadRows<const bf16>& from, const Place& place) {
  load_rows(tile, from, 0, Of::kRows, place.thread, Of::kThreads);
}

/// Calls launch.operator()<strips>() with the least that the longest sequence fits into, each of which costs registers and arithmetic.
template <int D, class Launch> void for_strips(const Attention<bf16>& a, const Launch& launch) {
  const int64_t longest = a.max_queries > a.max_keys ? a.max_queries : a.max_keys;
  if (longest <= 16) return launch.template operator()<1>();
  if (longest <= 32) return launch.template operator()<2>();
  if (longest <= 48) return launch.template operator()<3>();
  if (longest <= 64) return launch.template operator()<4>();
  if constexpr (D <= 64) launch.template operator()<8>();
}

/// Blocks for so many units, each of which has so many elements in shared memory.
template <class Of> LaunchShape shape_for(int64_t units, int elements) {
  return {blocks_for(units, Of::kUnits) + kTailBlocks, unsigned(Of::kUnits * Of::kThreads),
          Of::kUnits * size_t(elements) * sizeof(bf16)};
}

}  // namespace libtrain::kernels::attention_short
