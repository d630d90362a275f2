// Shapes    q, out [query rows, heads * D]; k, v [key rows, heads * D], D in {64, 128}.
// Mapping   A block of 9 warps owns 128 queries of a unit, one head of one sequence: two warpgroups with 64 queries each multiply, the
//           ninth warp brings tiles of 128 rows of k and v by TMA, by turns through a ring of four slots. Each slot has an mbarrier that
//           tells that its tile is there and one that tells that all eight warps have done with it. Grid as attention_long.cu.
// Traffic   As attention_long.cu: q once, k and v once for every 128 queries. 4 S^2 D FLOP and S^2 exponentials. Scores take both factors
//           from shared memory, probabilities are a factor in registers. Exponentials overlap with the values of the tile before,
//           and with all products of the other warpgroup.
// Numerics  As attention_short.cu. Rows of v behind a sequence's end are zeroed in shared memory: 0 times another sequence's NaN is NaN.
// Source    Shah et al., FlashAttention-3, 2024; Spector et al., ThunderKittens, 2024 (this simple form of it).
// Measured  docs/kernels.md.
#include "kernels/cuda/attention_hopper.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_hopper;

constexpr int kKeys = 128;  // of a tile
constexpr int kSlots = 4;   // of the ring: values of one tile, keys of the next, and two on their way

template <int D> using Keys = Ring<D, kKeys, kSlots>;

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

/// Starts the scores of 64 queries, rows q_row … of q, with a tile of keys; starts adding the values of another. Both tiles are there.
/// Warpgroup; between the two nothing may be waited for, or ptxas has each product waited for.
template <int D> __device__ inline void start_scores(Fragment<kKeys>& scores, const Keys<D>& ring,
                                                     PanelTile<D, kRows> q, int q_row, int tile) {
  ptx::wgmma_fence(scores.at);
  start_product(scores, q, q_row, ring.tile(2 * tile));
  ptx::wgmma_commit();
}
template <int D>
__device__ inline void start_values(OutputStrip<D>& out, Factor<kKeys>& p, const Keys<D>& ring, int tile) {
  ptx::wgmma_fence(out.sum.at, p.at);
  start_adding(out.sum, p, ring.tile(2 * tile + 1));
  ptx::wgmma_commit();
}

/// Scores of the strip of queries `first` … with a tile → probabilities, as online_softmax has them.
template <int D> __device__ inline void weigh(OutputStrip<D>& out, Fragment<kKeys>& p, const ScoreRules& rules,
                                              int first, int tile, float (&rescale)[2]) {
  hide_keys(p, rules.mask, first, tile * kKeys);
  online_softmax(out, p, rules.factor, rescale);
  const int groups = groups_of(rules.mask.visible_keys(first + kStrip - 1) - tile * kKeys);
  drop_keys(p, rules.dropout, first, tile * kKeys, groups);
}

/// Lets a warpgroup's 64 queries attend to all tiles; `first` is the first query of this warp's strip. A tile's exponentials are taken while
/// the tensor cores add the values of the tile before.
template <int D> __device__ inline void attend(OutputStrip<D>& out, const ScoreRules& rules, const Keys<D>& ring,
                                               PanelTile<D, kRows> q, int q_row, int first, int tiles) {
  if (tiles == 0) return;
  Fragment<kKeys> p;
  Factor<kKeys> factor;
  float rescale[2];
  ring.wait(0);
  start_scores(p, ring, q, q_row, 0);
  ptx::wgmma_wait<0>(p.at);
  ring.release(0);
  weigh(out, p, rules, first, 0, rescale);
  factor.pack(p);
#pragma unroll 1
  for (int tile = 1; tile < tiles; ++tile) {
    ring.wait(2 * tile - 1);
    ring.wait(2 * tile);
    start_scores(p, ring, q, q_row, tile);
    start_values(out, factor, ring, tile - 1);
    ptx::wgmma_wait<1>(p.at);
    ring.release(2 * tile);
    weigh(out, p, rules, first, tile, rescale);
    ptx::wgmma_wait<0>(out.sum.at, factor.at);
    ring.release(2 * tile - 1);
    rescale_sum(out, rescale);
    factor.pack(p);
  }
  ring.wait(2 * tiles - 1);
  start_values(out, factor, ring, tiles - 1);
  ptx::wgmma_wait<0>(out.sum.at, factor.at);  // nothing more comes into that slot
}

/// Output and log-sum-exp of 128 queries.
template <int D> __global__ void __launch_bounds__(kThreads, 1)
    hopper_forward_kernel(Attention<bf16> a, const __grid_constant__ ptx::TensorMap q_map,
                          const __grid_constant__ ptx::TensorMap k_map, const __grid_constant__ ptx::TensorMap v_map,
                          Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ Barriers<kSlots> barriers;
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
  ptx::mbarrier_wait(&barriers.own, 0);
  if (work.first + group_row >= u.queries) return ring.let_pass(0, 2 * tiles);
  OutputStrip<D> out;
  attend(out, rules, ring, q, group_row, first, tiles);
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
