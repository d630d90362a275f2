// Shapes    q, dout, dq [query rows, heads * D]; k, v, dk, dv [key rows, heads * D], D in {64, 128}.
// Mapping   A block owns 128 queries (dQ) or 128 keys (dK, dV) of a unit, two warpgroups with 64 each; a ninth warp brings tiles of 64
//           rows of the other kind by TMA, as in attention_hopper.cu. For dK and dV scores are computed with keys as rows, so that P and
//           dS are first factors in registers. dQ and (dK, dV) are kernels of their own, so that no sum has two writers and each is
//           summed in the order of its tiles. Grids as attention_long.cu.
// Traffic   Forward's, twice for each of the two kernels. 14 S^2 D FLOP, 7 products of which 2 are made twice; 18 where 128 keys or fewer
//           are seen. Scores and dP take both factors from shared memory, which at 64 columns gives a wgmma no more than it can take.
// Numerics  As attention_long.cu, D of queries too. Rows of tiles behind a sequence's end are zeroed in shared memory.
// Source    Shah et al., FlashAttention-3, 2024; Dao, FlashAttention-2, 2023.
// Measured  Not yet on a device.
#include "kernels/cuda/attention_hopper.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_hopper;

constexpr int kKeys = 64;                                    // of a tile
template <int D> constexpr int kQueries = D > 64 ? 32 : 64;  // likewise: dK, dV, scores and dP are all in registers

template <int D> using Own = PanelTile<D, kRows>;

/// Two tiles of a block's own, then the ring.
template <int D, int rows> constexpr size_t kSharedBytes = (2 * kRows + kSlots * rows) * D * sizeof(bf16);

/// Maps of the operands. Rows of the kind that a block owns come in boxes of kRows, the others a tile at a time.
struct Maps {
  ptx::TensorMap q, dout, k, v;
};

/// Brings what the block owns: rows from `row` on of two matrices. One thread.
template <int D> __device__ inline void bring_own(Own<D> x, const ptx::TensorMap& x_map, Own<D> y,
                                                  const ptx::TensorMap& y_map, int column, int row,
                                                  Barriers& barriers) {
  ptx::mbarrier_arrive_expect_tx(&barriers.own, 2 * Own<D>::kBytes);
  x.copy(x_map, column, row, &barriers.own);
  y.copy(y_map, column, row, &barriers.own);
}

/// The tiles of a strip of queries: passes through all `tiles` for the sums D, unless those come from the output, then for dQ.
struct KeyPasses {
  int tiles, begin, end;

  __device__ bool sums(int pass) const { return pass < tiles; }
  __device__ int tile(int pass) const { return pass < tiles ? pass : pass - tiles; }
  __device__ int step(int pass) const { return 2 * (pass - begin); }
};

template <int D> __device__ inline void bring_keys(const AttentionUnit& u, const Ring<D, kKeys>& ring,
                                                   const KeyPasses& passes, const ptx::TensorMap& k_map,
                                                   const ptx::TensorMap& v_map) {
  int cuts = 0;
#pragma unroll 1
  for (int pass = passes.begin; pass < passes.end; ++pass) {
    const int step = passes.step(pass), first = passes.tile(pass) * kKeys, count = u.keys - first;
    ring.claim(step);
    ring.bring(step, k_map, u.head * D, u.first_key + first, count, cuts);
    ring.claim(step + 1);
    ring.bring(step + 1, v_map, u.head * D, u.first_key + first, count, cuts);
  }
}

/// Both first products of a tile: p = 64 rows of x from `row` on, times rows of y, transposed; dp of z and w likewise.
template <int D, int rows> __device__ inline void multiply(Fragment<rows>& p, Own<D> x, PanelTile<D, rows> y,
                                                           Fragment<rows>& dp, Own<D> z, PanelTile<D, rows> w,
                                                           int row) {
  ptx::wgmma_fence(p.at, dp.at);
  start_product(p, x, row, y);
  start_product(dp, z, row, w);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(p.at, dp.at);
}

/// Takes a warpgroup's strips of queries through a tile of keys; `first` is the first query of this warp's.
template <int D> __device__ inline void add_keys(QueryStrip<D>& strip, const ScoreRules& rules, Own<D> q, Own<D> dout,
                                                 int group_row, PanelTile<D, kKeys> k, PanelTile<D, kKeys> v, int first,
                                                 int first_key, bool sums) {
  Fragment<kKeys> p, ds;
  multiply(p, q, k, ds, dout, v, group_row);
  weigh(p, ds, strip, rules, first, first_key, groups_of(rules.mask.visible_keys(first + kStrip - 1) - first_key));
  if (sums) return add_sums(strip, ds);
  subtract_sums(ds, p, strip);
  Factor<kKeys> factor(ds);
  ptx::wgmma_fence(strip.dq.at, factor.at);
  start_adding(strip.dq, factor, k);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(strip.dq.at, factor.at);
}

/// dQ of 128 queries; leaves D in workspace.
template <int D> __global__ void __launch_bounds__(kThreads, 1)
    hopper_dq_kernel(Attention<bf16> a, const __grid_constant__ Maps maps, Sink<bf16> dq, Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ Barriers barriers;
  if (blockIdx.x >= plan.blocks) return clear_gradient_tail(a, dq, a.q, a.query_ends, a.query_rows);
  const Work work = work_of_block(a, plan, a.causal);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.queries) return;
  const ScoreRules rules = score_rules(a, u);
  const Own<D> q{reinterpret_cast<bf16*>(shared)}, dout{q.data + kRows * D};
  const Ring<D, kKeys> ring{dout.data + kRows * D, barriers};
  const int tiles = tiles_for(rules.mask.visible_keys(work.first + kRows - 1), kKeys);
  const bool from_output = rules.mask.visible_keys(work.first) > kSummedKeys;
  const KeyPasses passes{tiles, from_output ? tiles : 0, dq.data ? 2 * tiles : tiles};
  init(barriers);
  if (threadIdx.x >= kConsumers) {
    ptx::setmaxnreg_dec<kBringingRegisters>();
    if (threadIdx.x >= kConsumers + kWarp) return;
    if (lane() == 0) bring_own(q, maps.q, dout, maps.dout, u.head * D, int(u.first_query) + work.first, barriers);
    return bring_keys(u, ring, passes, maps.k, maps.v);
  }
  ptx::setmaxnreg_inc<kMultiplyingRegisters>();
  const int group_row = work.strip / kGroupRows * kGroupRows, first = work.first + work.strip;
  const int group_first = work.first + group_row;
  const int keys = group_first < u.queries ? rules.mask.visible_keys(group_first + kGroupRows - 1) : 0;
  QueryStrip<D> strip;
#pragma unroll
  for (int half = 0; half < 2; ++half) strip.lse[half] = load_lse(a, u, first + row_of(2 * half));
  ptx::mbarrier_wait(&barriers.own, 0);
  if (from_output) sum_from_output(strip, a, u, dout, work);
#pragma unroll 1
  for (int pass = passes.begin; pass < passes.end; ++pass) {
    const int step = passes.step(pass), first_key = passes.tile(pass) * kKeys;
    ring.wait(step);
    ring.wait(step + 1);
    if (first_key < keys)
      add_keys(strip, rules, q, dout, group_row, ring.tile(step), ring.tile(step + 1), first, first_key,
               passes.sums(pass));
    ring.release(step);
    ring.release(step + 1);
  }
  store_sums(a, u, strip, first);
  if (dq.data && first < u.queries) store_gradient(a, u, dq, strip, first);
}

/// lse, then D, of the queries of the tile in each half of the ring.
template <int D> using Sums = float[kSlots / 2][2 * kQueries<D>];

template <int D> __device__ inline void bring_queries(const Attention<bf16>& a, const AttentionUnit& u,
                                                      const Ring<D, kQueries<D>>& ring, Sums<D>& sums, int begin,
                                                      int tiles, const ptx::TensorMap& q_map,
                                                      const ptx::TensorMap& dout_map) {
  int cuts = 0;
#pragma unroll 1
  for (int tile = begin; tile < tiles; ++tile) {
    const int step = 2 * (tile - begin), first = tile * kQueries<D>, count = u.queries - first;
    ring.claim(step);
    float* const of_tile = sums[step % kSlots / 2];
#pragma unroll
    for (int i = lane(); i < kQueries<D>; i += kWarp) {
      of_tile[i] = load_lse(a, u, first + i);
      of_tile[kQueries<D> + i] = i < count ? a.workspace.data[u.head * a.query_rows + u.first_query + first + i] : 0;
    }
    __syncwarp();  // the arrival of the first lane stands for all
    ring.bring(step, q_map, u.head * D, u.first_query + first, count, cuts);
    ring.claim(step + 1);
    ring.bring(step + 1, dout_map, u.head * D, u.first_query + first, count, cuts);
  }
}

/// Takes a warpgroup's strips of keys through a tile of queries; `first` is the first key of this warp's.
template <int D> __device__ inline void add_queries(KeyStrip<D>& strip, const ScoreRules& rules, Own<D> k, Own<D> v,
                                                    int group_row, PanelTile<D, kQueries<D>> q,
                                                    PanelTile<D, kQueries<D>> dout, float* sums, int first,
                                                    int first_query, int queries) {
  Fragment<kQueries<D>> p, ds;
  multiply(p, k, q, ds, v, dout, group_row);
  weigh_rows(p, ds, rules, {sums, sums + kQueries<D>}, 0, first, first_query, groups_of(queries - first_query));
  Factor<kQueries<D>> p_factor(p), ds_factor(ds);
  ptx::wgmma_fence(strip.dv.at, strip.dk.at, p_factor.at, ds_factor.at);
  start_adding(strip.dv, p_factor, dout);
  start_adding(strip.dk, ds_factor, q);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(strip.dv.at, strip.dk.at, p_factor.at, ds_factor.at);
}

/// dK and dV of 128 keys, with D from workspace.
template <int D> __global__ void __launch_bounds__(kThreads, 1)
    hopper_dkv_kernel(Attention<bf16> a, const __grid_constant__ Maps maps, AttentionGradients<bf16> g, Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ Barriers barriers;
  __shared__ Sums<D> sums;
  if (blockIdx.x >= plan.blocks) {
    clear_gradient_tail(a, g.dk, a.k, a.key_ends, a.key_rows);
    return clear_gradient_tail(a, g.dv, a.v, a.key_ends, a.key_rows);
  }
  const Work work = work_of_block(a, plan, false);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.keys) return;
  const ScoreRules rules = score_rules(a, u);
  const Own<D> k{reinterpret_cast<bf16*>(shared)}, v{k.data + kRows * D};
  const Ring<D, kQueries<D>> ring{v.data + kRows * D, barriers};
  const int begin = a.causal ? work.first / kQueries<D> : 0, tiles = tiles_for(u.queries, kQueries<D>);
  init(barriers);
  if (threadIdx.x >= kConsumers) {
    ptx::setmaxnreg_dec<kBringingRegisters>();
    if (threadIdx.x >= kConsumers + kWarp) return;
    if (lane() == 0) bring_own(k, maps.k, v, maps.v, u.head * D, int(u.first_key) + work.first, barriers);
    return bring_queries(a, u, ring, sums, begin, tiles, maps.q, maps.dout);
  }
  ptx::setmaxnreg_inc<kMultiplyingRegisters>();
  const int group_row = work.strip / kGroupRows * kGroupRows, first = work.first + work.strip;
  const int group_first = work.first + group_row;
  KeyStrip<D> strip;
  ptx::mbarrier_wait(&barriers.own, 0);
#pragma unroll 1
  for (int tile = begin; tile < tiles; ++tile) {
    const int step = 2 * (tile - begin), first_query = tile * kQueries<D>;
    ring.wait(step);
    ring.wait(step + 1);
    if (group_first < u.keys && !(a.causal && first_query + kQueries<D> <= group_first))
      add_queries(strip, rules, k, v, group_row, ring.tile(step), ring.tile(step + 1), sums[step % kSlots / 2], first,
                  first_query, u.queries);
    ring.release(step);
    ring.release(step + 1);
  }
  if (first < u.keys) store_gradients(a, u, g.dk, g.dv, strip, rules, first);
}

template <int D> Maps maps_for(const Attention<bf16>& a, PackedRows<const bf16> dout, int query_rows, int key_rows) {
  return {map_of<D>(a, a.q, a.query_rows, query_rows), map_of<D>(a, dout, a.query_rows, query_rows),
          map_of<D>(a, a.k, a.key_rows, key_rows), map_of<D>(a, a.v, a.key_rows, key_rows)};
}

template <int D>
void backward(Cuda where, const Attention<bf16>& a, PackedRows<const bf16> dout, const AttentionGradients<bf16>& g) {
  const Plan queries = plan_for(a, a.max_queries), keys = plan_for(a, a.max_keys);
  launch(where, "attention_hopper_dq", {queries.blocks + kTailBlocks, kThreads, kSharedBytes<D, kKeys>},
         hopper_dq_kernel<D>, a, maps_for<D>(a, dout, kRows, kKeys), g.dq, queries);
  if (g.dk.data || g.dv.data)
    launch(where, "attention_hopper_dkv", {keys.blocks + kTailBlocks, kThreads, kSharedBytes<D, kQueries<D>>},
           hopper_dkv_kernel<D>, a, maps_for<D>(a, dout, kQueries<D>, kRows), g, keys);
}

}  // namespace

void attention_backward_hopper(Cuda where, const Attention<bf16>& a, View<const bf16> dout,
                               const AttentionGradients<bf16>& g) {
  const PackedRows<const bf16> rows{dout.data, a.heads * a.head_dim};
  for_hopper_head_size(a.head_dim, [&]<int D> { backward<D>(where, a, rows, g); });
}

}  // namespace libtrain::kernels
