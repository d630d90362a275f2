// Shapes    q, dout, dq [query rows, heads * D]; k, v, dk, dv [key rows, heads * D], D in {64, 128}.
// Mapping   A block owns 128 queries (dQ) or 128 keys (dK, dV) of a unit, two warpgroups with 64 each; a ninth warp brings tiles of 64
//           keys, or of 64 queries (32 for D = 128), by TMA, as in attention_hopper.cu. For dK and dV scores are computed with keys as
//           rows, so that P and dS are first factors in registers. dQ and (dK, dV) are kernels of their own, so that no sum has two
//           writers and each is summed in the order of its tiles. Grids as attention_long.cu.
// Traffic   Forward's, twice for each of the two kernels. 14 S^2 D FLOP, 7 products of which 2 are made twice; 18 where 128 keys or fewer
//           are seen. Scores and dP take both factors from shared memory: at 64 columns as many bytes as it gives, at 32 half as many
//           again. Exponentials overlap with products: of the tile before for dQ, of the same tile for dK and dV.
// Numerics  As attention_long.cu, D of queries too. Rows of tiles behind a sequence's end are zeroed in shared memory.
// Source    Shah et al., FlashAttention-3, 2024; Dao, FlashAttention-2, 2023.
// Measured  docs/kernels.md.
#include "kernels/cuda/attention_hopper.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_hopper;

constexpr int kKeys = 64;                                    // of a tile
template <int D> constexpr int kQueries = D > 64 ? 32 : 64;  // likewise: dK, dV, scores and dP are all in registers
constexpr int kKeySlots = 6;    // of the ring: one tile of both matrices is multiplied, one is added, one is on its way
constexpr int kQuerySlots = 4;  // one is multiplied and added, one is on its way

template <int D> using Own = PanelTile<D, kRows>;
template <int D> using Keys = Ring<D, kKeys, kKeySlots>;
template <int D> using Queries = Ring<D, kQueries<D>, kQuerySlots>;

/// Two tiles of a block's own, then the ring.
template <int D> constexpr size_t kDqBytes = (2 * kRows + kKeySlots * kKeys) * D * sizeof(bf16);
template <int D> constexpr size_t kDkvBytes = (2 * kRows + kQuerySlots * kQueries<D>)*D * sizeof(bf16);

/// Maps of the operands. Rows of the kind that a block owns come in boxes of kRows, the others a tile at a time.
struct Maps {
  ptx::TensorMap q, dout, k, v;
};

/// Brings what the block owns: rows from `row` on of two matrices. One thread.
template <int D> __device__ inline void bring_own(Own<D> x, const ptx::TensorMap& x_map, Own<D> y,
                                                  const ptx::TensorMap& y_map, int column, int row, uint64_t* barrier) {
  ptx::mbarrier_arrive_expect_tx(barrier, 2 * Own<D>::kBytes);
  x.copy(x_map, column, row, barrier);
  y.copy(y_map, column, row, barrier);
}

/// What passes through the ring of a block of queries: all `tiles` for the sums D, unless those come from the output, and again for dQ.
struct KeyPasses {
  int tiles;
  bool sums, gradient;

  __device__ int steps() const { return 2 * tiles * (int(sums) + int(gradient)); }
  /// The step that brings the keys of a tile for dQ; the next brings its values.
  __device__ int gradient_step(int tile) const { return 2 * (tile + (sums ? tiles : 0)); }
};

template <int D> __device__ inline void bring_keys(const AttentionUnit& u, const Keys<D>& ring, const KeyPasses& passes,
                                                   const ptx::TensorMap& k_map, const ptx::TensorMap& v_map) {
  int cuts = 0;
#pragma unroll 1
  for (int step = 0; step < passes.steps(); step += 2) {
    const int first = step / 2 % passes.tiles * kKeys, count = u.keys - first;
    ring.claim(step);
    ring.bring(step, k_map, u.head * D, u.first_key + first, count, cuts);
    ring.claim(step + 1);
    ring.bring(step + 1, v_map, u.head * D, u.first_key + first, count, cuts);
  }
}

/// Starts both first products of a tile: p = 64 rows of x from `row` on, times rows of y, transposed; dp of z and w likewise. Warpgroup.
template <int D, int rows> __device__ inline void start_both(Fragment<rows>& p, Own<D> x, PanelTile<D, rows> y,
                                                             Fragment<rows>& dp, Own<D> z, PanelTile<D, rows> w,
                                                             int row) {
  ptx::wgmma_fence(p.at, dp.at);
  start_product(p, x, row, y);
  start_product(dp, z, row, w);
  ptx::wgmma_commit();
}

/// A warpgroup of a block of queries: its rows of the block begin with group_row, its warp's queries with `first`, and `tiles` of keys are seen.
template <int D> struct QueryGroup {
  Own<D> q, dout;
  const Keys<D>& ring;
  const ScoreRules& rules;
  int group_row, first, tiles;

  /// Starts Q K^T and dO V^T with the tile of keys that `step` brought.
  __device__ void start(Fragment<kKeys>& p, Fragment<kKeys>& dp, int step) const {
    start_both(p, q, ring.tile(step), dp, dout, ring.tile(step + 1), group_row);
  }
  __device__ void start_dq(QueryStrip<D>& strip, Factor<kKeys>& ds, int step) const {
    ptx::wgmma_fence(strip.dq.at, ds.at);
    start_adding(strip.dq, ds, ring.tile(step));
    ptx::wgmma_commit();
  }
  __device__ void weigh_tile(Fragment<kKeys>& p, Fragment<kKeys>& ds, const QueryStrip<D>& strip, int tile) const {
    const int key = tile * kKeys, groups = groups_of(rules.mask.visible_keys(first + kStrip - 1) - key);
    weigh(p, ds, strip, rules, first, key, groups);
  }
};

/// Sums D of a warpgroup's queries from P and dP.
template <int D> __device__ inline void sum_keys(QueryStrip<D>& strip, const QueryGroup<D>& group) {
#pragma unroll 1
  for (int tile = 0; tile < group.tiles; ++tile) {
    Fragment<kKeys> p, p_dp;
    group.ring.wait(2 * tile);
    group.ring.wait(2 * tile + 1);
    group.start(p, p_dp, 2 * tile);
    ptx::wgmma_wait<0>(p.at, p_dp.at);
    group.ring.release(2 * tile);
    group.ring.release(2 * tile + 1);
    group.weigh_tile(p, p_dp, strip, tile);
    add_sums(strip, p_dp);
  }
}

/// dQ of a warpgroup's queries. P and dS of a tile are computed while the tensor cores add the product of the tile before.
template <int D>
__device__ inline void add_keys(QueryStrip<D>& strip, const QueryGroup<D>& group, const KeyPasses& passes) {
  if (group.tiles == 0) return;
  const Keys<D>& ring = group.ring;
  Fragment<kKeys> p, ds;
  Factor<kKeys> factor;
  int step = passes.gradient_step(0);
  ring.wait(step);
  ring.wait(step + 1);
  group.start(p, ds, step);
  ptx::wgmma_wait<0>(p.at, ds.at);
  ring.release(step + 1);
  group.weigh_tile(p, ds, strip, 0);
  subtract_sums(ds, p, strip);
  factor.pack(ds);
#pragma unroll 1
  for (int tile = 1; tile < group.tiles; ++tile, step += 2) {
    ring.wait(step + 2);
    ring.wait(step + 3);
    group.start(p, ds, step + 2);
    group.start_dq(strip, factor, step);
    ptx::wgmma_wait<1>(p.at, ds.at);
    ring.release(step + 3);
    group.weigh_tile(p, ds, strip, tile);
    subtract_sums(ds, p, strip);
    ptx::wgmma_wait<0>(strip.dq.at, factor.at);
    ring.release(step);
    factor.pack(ds);
  }
  group.start_dq(strip, factor, step);
  ptx::wgmma_wait<0>(strip.dq.at, factor.at);  // nothing more comes into that slot
}

/// dQ of 128 queries; leaves D in workspace.
template <int D> __global__ void __launch_bounds__(kThreads, 1)
    hopper_dq_kernel(Attention<bf16> a, const __grid_constant__ Maps maps, Sink<bf16> dq, Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ Barriers<kKeySlots> barriers;
  if (blockIdx.x >= plan.blocks) return clear_gradient_tail(a, dq, a.q, a.query_ends, a.query_rows);
  const Work work = work_of_block(a, plan, a.causal);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.queries) return;
  const ScoreRules rules = score_rules(a, u);
  const Own<D> q{reinterpret_cast<bf16*>(shared)}, dout{q.data + kRows * D};
  const Keys<D> ring{dout.data + kRows * D, barriers};
  const int tiles = tiles_for(rules.mask.visible_keys(work.first + kRows - 1), kKeys);
  const bool from_output = rules.mask.visible_keys(work.first) > kSummedKeys;
  const KeyPasses passes{tiles, !from_output, dq.data != nullptr};
  init(barriers);
  if (threadIdx.x >= kConsumers) {
    ptx::setmaxnreg_dec<kBringingRegisters>();
    if (threadIdx.x >= kConsumers + kWarp) return;
    if (lane() == 0) bring_own(q, maps.q, dout, maps.dout, u.head * D, int(u.first_query) + work.first, &barriers.own);
    return bring_keys(u, ring, passes, maps.k, maps.v);
  }
  ptx::setmaxnreg_inc<kMultiplyingRegisters>();
  const int group_row = work.strip / kGroupRows * kGroupRows, first = work.first + work.strip;
  const int group_first = work.first + group_row;
  const int keys = group_first < u.queries ? rules.mask.visible_keys(group_first + kGroupRows - 1) : 0;
  const QueryGroup<D> group{q, dout, ring, rules, group_row, first, tiles_for(keys, kKeys)};
  QueryStrip<D> strip;
#pragma unroll
  for (int half = 0; half < 2; ++half) strip.lse[half] = load_lse(a, u, first + row_of(2 * half));
  ptx::mbarrier_wait(&barriers.own, 0);
  if (from_output) {
    sum_from_output(strip, a, u, dout, work);
  } else {
    sum_keys(strip, group);
    ring.let_pass(2 * group.tiles, 2 * tiles);
  }
  if (passes.gradient) {
    add_keys(strip, group, passes);
    ring.let_pass(passes.gradient_step(group.tiles), passes.gradient_step(tiles));
  }
  store_sums(a, u, strip, first);
  store_gradient(a, u, dq, strip.dq, float(a.scale), first);
}

/// lse, then D, of the queries of each tile in the ring.
template <int D> using Sums = float[kQuerySlots / 2][2 * kQueries<D>];

template <int D> __device__ inline void bring_queries(const Attention<bf16>& a, const AttentionUnit& u,
                                                      const Queries<D>& ring, Sums<D>& sums, int begin, int tiles,
                                                      const ptx::TensorMap& q_map, const ptx::TensorMap& dout_map) {
  int cuts = 0;
#pragma unroll 1
  for (int tile = begin; tile < tiles; ++tile) {
    const int step = 2 * (tile - begin), first = tile * kQueries<D>, count = u.queries - first;
    ring.claim(step);
    float* const of_tile = sums[step / 2 % (kQuerySlots / 2)];
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

/// A warpgroup of a block of keys: its rows of the block begin with group_row, its warp's keys with `first`.
template <int D> struct KeyGroup {
  Own<D> k, v;
  const Queries<D>& ring;
  Sums<D>& sums;
  const ScoreRules& rules;
  int group_row, first, queries;
};

/// Takes a warpgroup's keys through the tile of queries that `step` brought. P is computed while the tensor cores are at dP, dS while they
/// are at dV.
template <int D>
__device__ inline void add_queries(KeyStrip<D>& strip, const KeyGroup<D>& group, int step, int first_query) {
  constexpr int kColumns = kQueries<D>;
  const PanelTile<D, kColumns> q = group.ring.tile(step), dout = group.ring.tile(step + 1);
  float* const of_tile = group.sums[step / 2 % (kQuerySlots / 2)];
  const QuerySums sums{of_tile, of_tile + kColumns};
  Fragment<kColumns> p, ds, kept;
  Factor<kColumns> p_factor, ds_factor;
  ptx::wgmma_fence(p.at);
  start_product(p, group.k, group.group_row, q);
  ptx::wgmma_commit();
  ptx::wgmma_fence(ds.at);
  start_product(ds, group.v, group.group_row, dout);
  ptx::wgmma_commit();
  ptx::wgmma_wait<1>(p.at);
  weigh_rows(p, group.rules, sums, 0, group.first, first_query);
  const uint32_t coins =
      coins_of_rows<kColumns>(group.rules.dropout, group.first, first_query, groups_of(group.queries - first_query));
  kept = p;
  drop(kept, coins);
  p_factor.pack(kept);
  ptx::wgmma_fence(strip.dv.at, p_factor.at);
  start_adding(strip.dv, p_factor, dout);
  ptx::wgmma_commit();
  ptx::wgmma_wait<1>(ds.at);
  differentiate_rows(ds, p, group.rules, sums, 0, coins);
  ds_factor.pack(ds);
  ptx::wgmma_fence(strip.dk.at, ds_factor.at);
  start_adding(strip.dk, ds_factor, q);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(strip.dv.at, strip.dk.at, p_factor.at, ds_factor.at);
}

/// dK and dV of 128 keys, with D from workspace.
template <int D> __global__ void __launch_bounds__(kThreads, 1)
    hopper_dkv_kernel(Attention<bf16> a, const __grid_constant__ Maps maps, AttentionGradients<bf16> g, Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ Barriers<kQuerySlots> barriers;
  __shared__ Sums<D> sums;
  Work work{};
  if (!take_keys(work, a, g, plan)) return;
  const AttentionUnit& u = work.unit;
  const ScoreRules rules = score_rules(a, u);
  const Own<D> k{reinterpret_cast<bf16*>(shared)}, v{k.data + kRows * D};
  const Queries<D> ring{v.data + kRows * D, barriers};
  const int begin = a.causal ? work.first / kQueries<D> : 0, tiles = tiles_for(u.queries, kQueries<D>);
  init(barriers);
  if (threadIdx.x >= kConsumers) {
    ptx::setmaxnreg_dec<kBringingRegisters>();
    if (threadIdx.x >= kConsumers + kWarp) return;
    if (lane() == 0) bring_own(k, maps.k, v, maps.v, u.head * D, int(u.first_key) + work.first, &barriers.own);
    return bring_queries(a, u, ring, sums, begin, tiles, maps.q, maps.dout);
  }
  ptx::setmaxnreg_inc<kMultiplyingRegisters>();
  const int group_row = work.strip / kGroupRows * kGroupRows, first = work.first + work.strip;
  const int group_first = work.first + group_row;
  const int first_seen = a.causal ? group_first : 0;  // queries before see none of these keys
  const KeyGroup<D> group{k, v, ring, sums, rules, group_row, first, u.queries};
  KeyStrip<D> strip;
  ptx::mbarrier_wait(&barriers.own, 0);
#pragma unroll 1
  for (int tile = begin; tile < tiles; ++tile) {
    const int step = 2 * (tile - begin), first_query = tile * kQueries<D>;
    ring.wait(step);
    ring.wait(step + 1);
    const int past = first_query + kQueries<D>;
    if (group_first < u.keys && past > first_seen) add_queries(strip, group, step, first_query);
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
  launch(where, "attention_hopper_dq", {queries.blocks + kTailBlocks, kThreads, kDqBytes<D>}, hopper_dq_kernel<D>, a,
         maps_for<D>(a, dout, kRows, kKeys), g.dq, queries);
  if (g.dk.data || g.dv.data)
    launch(where, "attention_hopper_dkv", {keys.blocks + kTailBlocks, kThreads, kDkvBytes<D>}, hopper_dkv_kernel<D>, a,
           maps_for<D>(a, dout, kQueries<D>, kRows), g, keys);
}

}  // namespace

void attention_backward_hopper(Cuda where, const Attention<bf16>& a, View<const bf16> dout,
                               const AttentionGradients<bf16>& g) {
  const PackedRows<const bf16> rows{dout.data, a.heads * a.head_dim};
  for_hopper_head_size(a.head_dim, [&]<int D> { backward<D>(where, a, rows, g); });
}

}  // namespace libtrain::kernels
