// Shapes    q, out, dout, dq [query rows, heads * D]; k, v, dk, dv [key rows, heads * D], D in {32, 64, 96, 128}; no sequence is longer
//           than 128, and 128 only for D <= 64.
// Mapping   A unit (one head of one sequence) lies in shared memory whole. It has a warp for every 16 rows that the longest sequence may
//           have, 1 to 8; a block has one unit, or as many as fit into 4 warps. A warp owns 16 queries, in backward then 16 keys: it
//           computes P and dS anew with keys as rows, so that dS need not pass through shared memory and no sum has two writers. Warps
//           without rows idle, products leave out groups of 16 absent keys. Four blocks at the end zero the rows of no sequence.
// Traffic   Forward reads q, k, v and writes out, each once: 8 D bytes a token. Backward reads q, k, v, dout and writes dq, dk, dv: 14 D.
//           Bound by memory: 4 S^2 D FLOP and S^2 exponentials forward, 14 S^2 D and 2 S^2 backward (18 and 3 above 64 keys).
// Numerics  Products of bf16 summed in f32; scores, softmax, D and dP in f32. P and dS are rounded to bf16 for the second product, the
//           sum of a row is that of the unrounded P. D = rowsum(P * dP): taken from the rounded output it would be felt where few keys are
//           seen. Exponentials are base 2 with a relative error of 2^-22.
// Source    Dao et al., FlashAttention, 2022; Dao, FlashAttention-2, 2023.
// Measured  docs/kernels.md.
#include "kernels/cuda/attention_strips.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_fragments;

constexpr int kMostStrips = 8;
template <int D> constexpr int kQueries = D > 32 ? 16 : 32;                    // queries of a strip of keys at a time
template <int kKeys> constexpr int kMostWarps = kKeys < 64 ? 4 : kMostStrips;  // of a block

/// How the grid is divided. Blocks do not count those of the tail.
struct Plan {
  int64_t units;
  unsigned blocks;
  int strips;  // of a unit, one a warp
  int units_per_block;

  __host__ __device__ int rows() const { return strips * kStrip; }
  /// Rows of the sums of a unit: a strip of keys reads those of kQueries queries, wanted or not.
  __host__ __device__ int sum_rows() const { return (rows() + 2 * kStrip - 1) / (2 * kStrip) * (2 * kStrip); }
};

/// A warp's place in its block, and its unit; units that do not exist have no rows.
struct Place {
  AttentionUnit unit;
  int group;   // of warps, one unit each
  int first;   // row of the warp's strip
  int thread;  // of `threads` in the group
  int threads;
};

__device__ inline Place place_of(const Attention<bf16>& a, const Plan& plan) {
  const int threads = plan.strips * kWarp, group = int(threadIdx.x) / threads, thread = int(threadIdx.x) % threads;
  const int64_t index = int64_t(blockIdx.x) * plan.units_per_block + group;
  return {index < plan.units ? attention_unit(a, index) : AttentionUnit{}, group, thread / kWarp * kStrip, thread,
          threads};
}

/// The tile `number` of a group that has `tiles`.
template <int D> __device__ inline RowTile<D> tile_of(unsigned char* shared, const Plan& plan, const Place& place,
                                                      int number, int tiles) {
  return {reinterpret_cast<bf16*>(shared) + (place.group * tiles + number) * plan.rows() * D};
}

/// Starts copying all rows of a head to a tile, as many as whole strips hold.
template <int D>
__device__ inline void load_all(RowTile<D> tile, const HeadRows<const bf16>& from, const Place& place) {
  load_rows(tile, from, 0, groups_of(from.count) * kStrip, place.thread, place.threads);
}

/// Calls launch.operator()<kKeys>(): the keys that a strip of queries takes at a time are all where they are up to 64, and no more than there
/// may be, for each costs registers and arithmetic, wanted or not.
template <class Launch> void for_keys(const Plan& plan, const Launch& launch) {
  if (plan.strips <= 2) return launch.template operator()<32>();
  if (plan.strips == 3) return launch.template operator()<48>();
  launch.template operator()<64>();
}

/// Output and log-sum-exp of whole sequences.
template <int D, int kKeys> __global__ void __launch_bounds__(kMostWarps<kKeys>* kWarp)
    short_forward_kernel(Attention<bf16> a, Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  if (blockIdx.x >= plan.blocks) return clear_output_tail(a);
  const Place place = place_of(a, plan);
  const AttentionUnit& u = place.unit;
  const RowTile<D> q = tile_of<D>(shared, plan, place, 0, 3), k = tile_of<D>(shared, plan, place, 1, 3),
                   v = tile_of<D>(shared, plan, place, 2, 3);
  load_all(q, queries_of<D>(a.q, u), place);
  load_all(k, keys_of<D>(a.k, u), place);
  load_all(v, keys_of<D>(a.v, u), place);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();
  if (place.first >= u.queries) return;
  const ScoreRules rules = score_rules(a, u);
  OutputStrip<D> out;
#pragma unroll 1
  for (int first_key = 0; first_key < rules.mask.visible_keys(place.first + kStrip - 1); first_key += kKeys)
    attend<D, kKeys>(out, rules, q, place.first, k, v, first_key, place.first, first_key);
  finish(a, u, out, rules, place.first);
}

template <int D> void forward(Cuda where, const Attention<bf16>& a, const Plan& plan) {
  const size_t bytes = size_t(plan.units_per_block) * 3 * size_t(plan.rows()) * D * sizeof(bf16);
  for_keys(plan, [&]<int kKeys>() {
    launch(where, "attention_short_forward",
           {plan.blocks + kTailBlocks, unsigned(plan.units_per_block * plan.strips * kWarp), bytes},
           short_forward_kernel<D, kKeys>, a, plan);
  });
}

/// dQ of the strip of queries `first` …; leaves the sums D of all its rows.
template <int D, int kKeys> __device__ inline void gradient_of_queries(const Attention<bf16>& a, const AttentionUnit& u,
                                                                       Sink<bf16> dq, const ScoreRules& rules,
                                                                       const OperandTiles<D>& tiles,
                                                                       const QuerySums& sums, int first) {
  QueryStrip<D> strip;
  const int keys = first < u.queries ? rules.mask.visible_keys(first + kStrip - 1) : 0, passes = keys > kKeys ? 2 : 1;
#pragma unroll
  for (int half = 0; half < 2; ++half) strip.lse[half] = sums.lse[first + row_of(2 * half)];
#pragma unroll 1
  for (int pass = 0; pass < passes; ++pass)
#pragma unroll 1
    for (int first_key = 0; first_key < keys; first_key += kKeys)
      add_keys<D, kKeys>(strip, rules, tiles, first, first_key, first, first_key,
                         passes == 1 ? QueryPass::kBoth
                         : pass == 0 ? QueryPass::kSums
                                     : QueryPass::kGradient);
#pragma unroll
  for (int half = 0; half < 2; ++half)
    if (lane() % 4 == 0) sums.d[first + row_of(2 * half)] = strip.d[half];
  if (dq.data && first < u.queries) store_gradient(a, u, dq, strip, first);
}

/// dK and dV of the strip of keys `first` ….
template <int D> __device__ inline void gradients_of_keys(const Attention<bf16>& a, const AttentionUnit& u,
                                                          const AttentionGradients<bf16>& g, const ScoreRules& rules,
                                                          const OperandTiles<D>& tiles, const QuerySums& sums,
                                                          int first) {
  constexpr int kStep = kQueries<D>;
  KeyStrip<D> strip;
#pragma unroll 1
  for (int first_query = a.causal ? first / kStep * kStep : 0; first_query < u.queries; first_query += kStep)
    add_queries<D, kStep>(strip, rules, tiles, sums, first, first_query, first, first_query,
                          groups_of(u.queries - first_query));
  store_gradients(a, u, g.dk, g.dv, strip, rules, first);
}

/// dQ, dK and dV of whole sequences.
template <int D, int kKeys> __global__ void __launch_bounds__(kMostWarps<kKeys>* kWarp)
    short_backward_kernel(Attention<bf16> a, PackedRows<const bf16> dout, AttentionGradients<bf16> g, Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  if (blockIdx.x >= plan.blocks) {
    clear_gradient_tail(a, g.dq, a.q, a.query_ends, a.query_rows);
    clear_gradient_tail(a, g.dk, a.k, a.key_ends, a.key_rows);
    return clear_gradient_tail(a, g.dv, a.v, a.key_ends, a.key_rows);
  }
  const Place place = place_of(a, plan);
  const AttentionUnit& u = place.unit;
  const OperandTiles<D> tiles{tile_of<D>(shared, plan, place, 0, 4), tile_of<D>(shared, plan, place, 1, 4),
                              tile_of<D>(shared, plan, place, 2, 4), tile_of<D>(shared, plan, place, 3, 4)};
  float* const floats = reinterpret_cast<float*>(shared + plan.units_per_block * 4 * plan.rows() * D * sizeof(bf16));
  const QuerySums sums{floats + place.group * 2 * plan.sum_rows(), floats + (place.group * 2 + 1) * plan.sum_rows()};
  load_all(tiles.q, queries_of<D>(a.q, u), place);
  load_all(tiles.k, keys_of<D>(a.k, u), place);
  load_all(tiles.dout, queries_of<D>(dout, u), place);
  load_all(tiles.v, keys_of<D>(a.v, u), place);
  ptx::cp_async_commit();
  for (int i = place.thread; i < plan.sum_rows(); i += place.threads) sums.lse[i] = load_lse(a, u, i), sums.d[i] = 0;
  ptx::cp_async_wait<0>();
  __syncthreads();
  const ScoreRules rules = score_rules(a, u);
  gradient_of_queries<D, kKeys>(a, u, g.dq, rules, tiles, sums, place.first);
  __syncthreads();  // the sums D are complete
  if (place.first < u.keys && (g.dk.data || g.dv.data)) gradients_of_keys(a, u, g, rules, tiles, sums, place.first);
}

template <int D> void backward(Cuda where, const Attention<bf16>& a, View<const bf16> dout,
                               const AttentionGradients<bf16>& g, const Plan& plan) {
  const size_t unit_bytes = plan.rows() * 4 * D * sizeof(bf16) + plan.sum_rows() * 2 * sizeof(float);
  for_keys(plan, [&]<int kKeys>() {
    launch(where, "attention_short_backward",
           {plan.blocks + kTailBlocks, unsigned(plan.units_per_block * plan.strips * kWarp),
            plan.units_per_block * unit_bytes},
           short_backward_kernel<D, kKeys>, a, PackedRows<const bf16>{dout.data, a.heads * D}, g, plan);
  });
}

/// The division for the longest sequence.
Plan plan_for(const Attention<bf16>& a) {
  const int64_t longest = a.max_queries > a.max_keys ? a.max_queries : a.max_keys, units = attention_units(a);
  const int strips = longest > kStrip ? int((longest + kStrip - 1) / kStrip) : 1;
  const int units_per_block = strips < 4 ? 4 / strips : 1;
  return {units, blocks_for(units, units_per_block), strips, units_per_block};
}

}  // namespace

void attention_forward_short(Cuda where, const Attention<bf16>& a) {
  for_head_size(a.head_dim, [&]<int D> { forward<D>(where, a, plan_for(a)); });
}

void attention_backward_short(Cuda where, const Attention<bf16>& a, View<const bf16> dout,
                              const AttentionGradients<bf16>& g) {
  for_head_size(a.head_dim, [&]<int D> { backward<D>(where, a, dout, g, plan_for(a)); });
}

}  // namespace libtrain::kernels
