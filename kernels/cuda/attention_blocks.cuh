/// How the kernels for long sequences divide their work: a block owns 128 queries or keys of a unit and passes through tiles of the other kind.
#pragma once
#include "kernels/cuda/attention_strips.cuh"

namespace libtrain::kernels::attention_fragments {

constexpr int kRows = 128;        // that a block owns
constexpr int kSummedKeys = 128;  // where a query sees no more, D is summed from P and dP

/// How the grid is divided. Blocks do not count those of the tail.
struct Plan {
  int64_t units;
  unsigned blocks;
};

/// What a block owns: rows first … first + 127 of a unit. A warp's strip begins with row `strip` of them.
struct Work {
  AttentionUnit unit;
  int first, strip;
};

/// last_first: for causal queries, of which the last see most keys.
__device__ inline Work work_of_block(const Attention<bf16>& a, const Plan& plan, bool last_first) {
  const int64_t number = blockIdx.x / plan.units, tiles = plan.blocks / plan.units;
  return {attention_unit(a, blockIdx.x % plan.units), int(last_first ? tiles - 1 - number : number) * kRows,
          int(threadIdx.x) / kWarp * kStrip};
}

/// Whether the block owns keys, for dK and dV: its work then. A block of the tail clears there instead.
__device__ inline bool take_keys(Work& work, const Attention<bf16>& a, const AttentionGradients<bf16>& g,
                                 const Plan& plan) {
  if (blockIdx.x >= plan.blocks) {
    clear_gradient_tail(a, g.dk, a.k, a.key_ends, a.key_rows);
    clear_gradient_tail(a, g.dv, a.v, a.key_ends, a.key_rows);
    return false;
  }
  work = work_of_block(a, plan, false);
  return work.first < work.unit.keys;
}

__device__ inline int tiles_for(int rows, int of_a_tile) { return (rows + of_a_tile - 1) / of_a_tile; }

/// The division for the longest sequence's `rows`. Throws Failure where no grid has so many blocks.
inline Plan plan_for(const Attention<bf16>& a, int64_t rows) {
  const int64_t units = attention_units(a);
  return {units, blocks_for(units * ceil_div(rows, kRows) + kTailBlocks, 1) - kTailBlocks};
}

/// D of a strip's queries from the output: rowsum(dO * O). `dout` is a tile with their rows; a lane reads 16 bytes of each
/// of its two rows at a time. Where rows lie 128 bytes apart, odd ones begin with the other half of their lines, in other banks.
template <int D, class Tile> __device__ inline void sum_from_output(QueryStrip<D>& strip, const Attention<bf16>& a,
                                                                    const AttentionUnit& u, Tile dout,
                                                                    const Work& work) {
  const auto out = queries_of<D>(PackedRows<const bf16>{a.out.data, a.heads * D}, u);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = work.strip + row_of(2 * half);
    float share = 0;
#pragma unroll
    for (int i = 0; i < D / 32; ++i) {
      const int half_line = D % 64 ? i : i + row % 2, chunk = (4 * half_line + lane() % 4) % (D / 8);
      if (work.first + row >= u.queries) break;
      const Pack<bf16> x = load_pack(out.at(work.first + row) + chunk * 8), y = load_pack(dout.chunk(row, chunk));
#pragma unroll
      for (int j = 0; j < Pack<bf16>::kSize; ++j) share += x.at[j] * y.at[j];
    }
    strip.d[half] = row_sum(share);
  }
}

/// Leaves the sums D of the strip of queries `first` … in workspace.
template <int D> __device__ inline void store_sums(const Attention<bf16>& a, const AttentionUnit& u,
                                                   const QueryStrip<D>& strip, int first) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = first + row_of(2 * half);
    if (lane() % 4 == 0 && query < u.queries)
      a.workspace.data[u.head * a.query_rows + u.first_query + query] = strip.d[half];
  }
}

}  // namespace libtrain::kernels::attention_fragments
