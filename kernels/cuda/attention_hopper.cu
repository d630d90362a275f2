// Shapes    q, out [query rows, heads * D]; k, v [key rows, heads * D], D in {64, 128}.
// Mapping   A block of 9 warps owns 128 queries of a unit, one head of one sequence: two warpgroups with 64 queries each multiply, the
//           ninth warp brings tiles of 128 rows of k and v by TMA, by turns through a ring of four slots. Each slot has an mbarrier that
//           tells that its tile is there and one that tells that all eight warps have done with it. Grid as attention_long.cu.
// Traffic   As attention_long.cu: q once, k and v once for every 128 queries. 4 S^2 D FLOP and S^2 exponentials. Scores take both factors
//           from shared memory, 128 x 64 x 16 in 128 clocks; probabilities are a factor in registers. While a warpgroup is at its
//           exponentials, the other has the tensor cores.
// Numerics  As attention_short.cu. Rows of v behind a sequence's end are zeroed in shared memory: 0 times another sequence's NaN is NaN.
// Source    Shah et al., FlashAttention-3, 2024; Spector et al., ThunderKittens, 2024 (this simple form of it).
// Measured  Not yet on a device.
#include "kernels/cuda/attention_hopper.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_hopper;

constexpr int kKeys = 128;  // of a tile

template <int D> using Keys = Ring<D, kKeys>;

/// Brings the block's queries, and all tiles of keys and values that they see.
template <int D> __device__ inline void bring(const AttentionUnit& u, const Keys<D>& ring, PanelTile<D, kRows> q,
                                              int first_query, int tiles, const ptx::TensorMap& q_map,
                                              const ptx::TensorMap& k_map, const ptx::TensorMap& v_map) {
  if (lane() == 0) q.load(q_map, u.head * D, int(u.first_query) + first_query, &ring.barriers.own);
  int cuts = 0;
#pragma unroll 1
  for (int tile = 0; tile < tiles; ++tile) {
    const int64_t row = u.first_key + tile * kKeys;
    ring.claim(2 * tile);
    ring.bring(2 * tile, k_map, u.head * D, row, kKeys, cuts);  // scores with what lies behind will be hidden
    ring.claim(2 * tile + 1);
    ring.bring(2 * tile + 1, v_map, u.head * D, row, u.keys - tile * kKeys, cuts);
  }
}

/// Zeroes dropped probabilities of the strip of queries `first` ….
__device__ inline void drop_keys(Fragment<kKeys>& p, const ScoreRules& rules, int first, int first_key) {
  if (!rules.dropout.active) return;
#pragma unroll
  for (int part = 0; part < kKeys / 64; ++part) {
    const int key = first_key + part * 64;
    const int groups = groups_of(rules.mask.visible_keys(first + kStrip - 1) - key);
    drop(p, coins_of_fragment<64>(rules.dropout, first, key, groups), part * 8);
  }
}

/// Lets a warpgroup's 64 queries, rows q_row … of q, attend to the keys of a tile; `first` is the first query of this warp's strip.
template <int D> __device__ inline void attend(OutputStrip<D>& out, const ScoreRules& rules, const Keys<D>& ring,
                                               PanelTile<D, kRows> q, int q_row, int first, int tile) {
  Fragment<kKeys> p;
  ring.wait(2 * tile);
  ptx::wgmma_fence(p.at);
  start_product(p, q, q_row, ring.tile(2 * tile));
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(p.at);
  ring.release(2 * tile);
  hide_keys(p, rules.mask, first, tile * kKeys);
  online_softmax(out, p, rules.factor);
  drop_keys(p, rules, first, tile * kKeys);
  Factor<kKeys> factor(p);
  ring.wait(2 * tile + 1);
  ptx::wgmma_fence(out.sum.at, factor.at);
  start_adding(out.sum, factor, ring.tile(2 * tile + 1));
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>(out.sum.at, factor.at);
  ring.release(2 * tile + 1);
}

/// Lets the tiles pass: a warpgroup without queries keeps up with the other.
template <int D> __device__ inline void let_pass(const Keys<D>& ring, int tile) {
  ring.wait(2 * tile);
  ring.release(2 * tile);
  ring.wait(2 * tile + 1);
  ring.release(2 * tile + 1);
}

/// Output and log-sum-exp of 128 queries.
template <int D> __global__ void __launch_bounds__(kThreads, 1)
    hopper_forward_kernel(Attention<bf16> a, const __grid_constant__ ptx::TensorMap q_map,
                          const __grid_constant__ ptx::TensorMap k_map, const __grid_constant__ ptx::TensorMap v_map,
                          Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ Barriers barriers;
  if (blockIdx.x >= plan.blocks) return clear_output_tail(a);
  const Work work = work_of_block(a, plan, a.causal);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.queries) return;
  const ScoreRules rules = score_rules(a, u);
  const PanelTile<D, kRows> q{reinterpret_cast<bf16*>(shared)};
  const Keys<D> ring{q.data + kRows * D, barriers};
  const int tiles = tiles_for(rules.mask.visible_keys(work.first + kRows - 1), kKeys);
  init(barriers);
  if (threadIdx.x >= kConsumers) {
    ptx::setmaxnreg_dec<kBringingRegisters>();
    if (threadIdx.x < kConsumers + kWarp) bring(u, ring, q, work.first, tiles, q_map, k_map, v_map);
    return;
  }
  ptx::setmaxnreg_inc<kMultiplyingRegisters>();
  const int group_row = work.strip / kGroupRows * kGroupRows, first = work.first + work.strip;
  const bool idle = work.first + group_row >= u.queries;
  ptx::mbarrier_wait(&barriers.own, 0);
  OutputStrip<D> out;
#pragma unroll 1
  for (int tile = 0; tile < tiles; ++tile) {
    if (idle)
      let_pass(ring, tile);
    else
      attend(out, rules, ring, q, group_row, first, tile);
  }
  if (first < u.queries) finish(a, u, out, rules, first);
}

}  // namespace

void attention_forward_hopper(Cuda where, const Attention<bf16>& a) {
  const Plan plan = plan_for(a, a.max_queries);
  for_hopper_head_size(a.head_dim, [&]<int D> {
    const LaunchShape shape{plan.blocks + kTailBlocks, kThreads, (kRows + kSlots * kKeys) * D * sizeof(bf16)};
    launch(where, "attention_hopper_forward", shape, hopper_forward_kernel<D>, a,
           map_of<D>(a, a.q, a.query_rows, kRows), map_of<D>(a, a.k, a.key_rows, kKeys),
           map_of<D>(a, a.v, a.key_rows, kKeys), plan);
  });
}

}  // namespace libtrain::kernels
