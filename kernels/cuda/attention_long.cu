// Shapes    q, out, dout, dq [query rows, heads * D]; k, v, dk, dv [key rows, heads * D], D in {32, 64, 96, 128}.
// Mapping   A block of 8 warps owns 128 queries (forward, dQ) or 128 keys (dK, dV) of a unit, one head of one sequence; a warp owns 16 of
//           them. It loops over tiles of the other kind, 64 rows (in backward 32 for D > 64), which pass through a ring of two buffers:
//           while a tile is worked on, cp.async brings the next. Units lie next to each other in the grid; with a causal mask the
//           longest blocks come first. dQ and (dK, dV) are kernels of their own, so that no sum has two writers. Blocks at the end
//           of each grid zero the rows of no sequence.
// Traffic   Forward reads q once and k, v once for every 128 queries: 128 FLOP a byte, from the second-level cache where sequences are
//           not very long. 4 S^2 D FLOP, half of it with a causal mask; bound by tensor cores and S^2 exponentials. Backward: 14 S^2 D,
//           7 products of which 2 are made twice; 18 where 128 keys or fewer are seen. A strip of 16 rows takes 256 bytes of shared
//           memory for an mma: at most 2048 FLOP a clock and multiprocessor, which is all of sm_80's rate and half of sm_90's.
// Numerics  As attention_short.cu and, backward, attention_short_backward.cu, of unrounded P; but for D of queries that see more than 128
//           keys: rowsum(dO * O) of the rounded output, where its rounding is far below that of dS.
// Source    Dao, FlashAttention-2, 2023; Milakov, Gimelshein, 2018 (online softmax).
// Measured  docs/kernels.md.
#include "kernels/cuda/attention_blocks.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_fragments;

constexpr int kThreads = kRows / kStrip * kWarp;
constexpr int kKeys = 64;                                    // of a tile in forward
template <int D> constexpr int kOthers = D > 64 ? 32 : 64;   // rows of a tile in backward: 99 KB are all that sm_86 has
template <int D> constexpr int kQueries = D > 96 ? 16 : 32;  // that a strip of keys takes at a time

/// Tile `number` of those that lie in shared memory from `shared` on, `rows` rows each.
template <int D> __device__ inline RowTile<D> tile_of(unsigned char* shared, int number, int rows) {
  return {reinterpret_cast<bf16*>(shared) + number * rows * D};
}

/// A ring of two stages, each with a tile of `rows` rows of one matrix and one of another (k and v, or q and dout).
template <int D, int rows> struct Ring {
  RowTile<D> tiles;

  __device__ RowTile<D> first(int stage) const { return {tiles.data + stage % 2 * 2 * rows * D}; }
  __device__ RowTile<D> second(int stage) const { return {tiles.data + (stage % 2 * 2 + 1) * rows * D}; }
  /// Starts copying rows from `row` on to a stage.
  __device__ void load(int stage, const HeadRows<const bf16>& x, const HeadRows<const bf16>& y, int row) const {
    load_rows(first(stage), x, row, rows, int(threadIdx.x), kThreads);
    load_rows(second(stage), y, row, rows, int(threadIdx.x), kThreads);
    ptx::cp_async_commit();
  }
};

/// Output and log-sum-exp of 128 queries.
template <int D> __global__ void __launch_bounds__(kThreads, 1) long_forward_kernel(Attention<bf16> a, Plan plan) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  if (blockIdx.x >= plan.blocks) return clear_output_tail(a);
  const Work work = work_of_block(a, plan, a.causal);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.queries) return;
  const ScoreRules rules = score_rules(a, u);
  const RowTile<D> q = tile_of<D>(shared, 0, kRows);
  const Ring<D, kKeys> ring{tile_of<D>(shared, 1, kRows)};
  const auto k = keys_of<D>(a.k, u), v = keys_of<D>(a.v, u);
  const int first = work.first + work.strip, tiles = tiles_for(rules.mask.visible_keys(work.first + kRows - 1), kKeys);
  const int keys = first < u.queries ? rules.mask.visible_keys(first + kStrip - 1) : 0;  // that this warp's queries see
  load_rows(q, queries_of<D>(a.q, u), work.first, kRows, int(threadIdx.x), kThreads);
  ring.load(0, k, v, 0);
  OutputStrip<D> out;
#pragma unroll 1
  for (int tile = 0; tile < tiles; ++tile) {
    ptx::cp_async_wait<0>();
    __syncthreads();  // the tile is there, and nobody is at the one before any more
    if (tile + 1 < tiles) ring.load(tile + 1, k, v, (tile + 1) * kKeys);
    if (tile * kKeys < keys)
      attend<D, kKeys>(out, rules, q, work.strip, ring.first(tile), ring.second(tile), 0, first, tile * kKeys);
  }
  ptx::cp_async_wait<0>();
  if (first < u.queries) finish(a, u, out, rules, first);
}

/// dQ of 128 queries; leaves D in workspace.
template <int D> __global__ void __launch_bounds__(kThreads, 1)
    long_dq_kernel(Attention<bf16> a, PackedRows<const bf16> dout_rows, Sink<bf16> dq, Plan plan) {
  constexpr int kStep = kOthers<D>;
  LIBTRAIN_DYNAMIC_SHARED(shared);
  if (blockIdx.x >= plan.blocks) return clear_gradient_tail(a, dq, a.q, a.query_ends, a.query_rows);
  const Work work = work_of_block(a, plan, a.causal);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.queries) return;
  const ScoreRules rules = score_rules(a, u);
  const Ring<D, kStep> ring{tile_of<D>(shared, 2, kRows)};
  const auto k = keys_of<D>(a.k, u), v = keys_of<D>(a.v, u);
  const int first = work.first + work.strip, tiles = tiles_for(rules.mask.visible_keys(work.first + kRows - 1), kStep);
  const int keys = first < u.queries ? rules.mask.visible_keys(first + kStrip - 1) : 0;
  const bool from_output = rules.mask.visible_keys(work.first) > kSummedKeys;
  const int begin = from_output ? tiles : 0, end = dq.data ? 2 * tiles : tiles;  // the tiles twice, sums first
  OperandTiles<D> at{tile_of<D>(shared, 0, kRows), tile_of<D>(shared, 1, kRows), {}, {}};
  QueryStrip<D> strip;
#pragma unroll
  for (int half = 0; half < 2; ++half) strip.lse[half] = load_lse(a, u, first + row_of(2 * half));
  load_rows(at.q, queries_of<D>(a.q, u), work.first, kRows, int(threadIdx.x), kThreads);
  load_rows(at.dout, queries_of<D>(dout_rows, u), work.first, kRows, int(threadIdx.x), kThreads);
  ring.load(begin, k, v, 0);
  if (from_output) {
    ptx::cp_async_wait<0>();
    __syncthreads();
    sum_from_output(strip, a, u, at.dout, work);
  }
#pragma unroll 1
  for (int step = begin; step < end; ++step) {
    const int tile = step < tiles ? step : step - tiles, next = step + 1 < tiles ? step + 1 : step + 1 - tiles;
    ptx::cp_async_wait<0>();
    __syncthreads();  // the tile is there, and nobody is at the one before any more
    if (step + 1 < end) ring.load(step + 1, k, v, next * kStep);
    at.k = ring.first(step);
    at.v = ring.second(step);
    if (tile * kStep < keys)
      add_keys<D, kStep>(strip, rules, at, work.strip, 0, first, tile * kStep,
                         step < tiles ? QueryPass::kSums : QueryPass::kGradient);
  }
  ptx::cp_async_wait<0>();
  store_sums(a, u, strip, first);
  store_gradient(a, u, dq, strip.dq, float(a.scale), first);
}

/// The sums of a tile's queries, on their way to shared memory: a thread holds lse of one query or D of another.
template <int step> __device__ inline float load_sum(const Attention<bf16>& a, const AttentionUnit& u, int first) {
  const int i = int(threadIdx.x), query = first + i % step;
  if (i < step) return load_lse(a, u, query);
  return i < 2 * step && query < u.queries ? a.workspace.data[u.head * a.query_rows + u.first_query + query] : 0;
}

/// dK and dV of 128 keys, with D from workspace.
template <int D> __global__ void __launch_bounds__(kThreads, 1)
    long_dkv_kernel(Attention<bf16> a, PackedRows<const bf16> dout_rows, AttentionGradients<bf16> g, Plan plan) {
  constexpr int kStep = kOthers<D>;
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ float sums[2][2 * kStep];  // of each stage: lse, then D
  Work work{};
  if (!take_keys(work, a, g, plan)) return;
  const AttentionUnit& u = work.unit;
  const ScoreRules rules = score_rules(a, u);
  const Ring<D, kStep> ring{tile_of<D>(shared, 2, kRows)};
  const auto q = queries_of<D>(a.q, u), dout = queries_of<D>(dout_rows, u);
  const int first = work.first + work.strip, begin = a.causal ? work.first / kStep : 0,
            tiles = tiles_for(u.queries, kStep);
  OperandTiles<D> at{{}, {}, tile_of<D>(shared, 0, kRows), tile_of<D>(shared, 1, kRows)};
  KeyStrip<D> strip;
  load_rows(at.k, keys_of<D>(a.k, u), work.first, kRows, int(threadIdx.x), kThreads);
  load_rows(at.v, keys_of<D>(a.v, u), work.first, kRows, int(threadIdx.x), kThreads);
  ring.load(begin, q, dout, begin * kStep);
  float sum = load_sum<kStep>(a, u, begin * kStep);
#pragma unroll 1
  for (int tile = begin; tile < tiles; ++tile) {
    if (threadIdx.x < 2 * kStep) sums[tile % 2][threadIdx.x] = sum;
    ptx::cp_async_wait<0>();
    __syncthreads();  // the tile is there, and nobody is at the one before any more
    if (tile + 1 < tiles) {
      ring.load(tile + 1, q, dout, (tile + 1) * kStep);
      sum = load_sum<kStep>(a, u, (tile + 1) * kStep);
    }
    at.q = ring.first(tile);
    at.dout = ring.second(tile);
#pragma unroll 1
    for (int row = 0; row < kStep && first < u.keys; row += kQueries<D>) {
      const int first_query = tile * kStep + row;
      if (first_query >= u.queries || (a.causal && first_query + kQueries<D> <= first)) continue;
      add_queries<D, kQueries<D>>(strip, rules, at, {sums[tile % 2], sums[tile % 2] + kStep}, work.strip, row, first,
                                  first_query, groups_of(u.queries - first_query));
    }
  }
  ptx::cp_async_wait<0>();
  if (first < u.keys) store_gradients(a, u, g.dk, g.dv, strip, rules, first);
}

/// `own`, `others`: rows in shared memory.
template <int D> LaunchShape shape_of(const Plan& plan, int own, int others) {
  return {plan.blocks + kTailBlocks, kThreads, size_t(own + others) * D * sizeof(bf16)};
}

template <int D>
void backward(Cuda where, const Attention<bf16>& a, PackedRows<const bf16> dout, const AttentionGradients<bf16>& g) {
  const Plan queries = plan_for(a, a.max_queries), keys = plan_for(a, a.max_keys);
  launch(where, "attention_long_dq", shape_of<D>(queries, 2 * kRows, 4 * kOthers<D>), long_dq_kernel<D>, a, dout, g.dq,
         queries);
  if (g.dk.data || g.dv.data)
    launch(where, "attention_long_dkv", shape_of<D>(keys, 2 * kRows, 4 * kOthers<D>), long_dkv_kernel<D>, a, dout, g,
           keys);
}

}  // namespace

void attention_forward_long(Cuda where, const Attention<bf16>& a) {
  const Plan plan = plan_for(a, a.max_queries);
  for_head_size(a.head_dim, [&]<int D> {
    launch(where, "attention_long_forward", shape_of<D>(plan, kRows, 4 * kKeys), long_forward_kernel<D>, a, plan);
  });
}

void attention_backward_long(Cuda where, const Attention<bf16>& a, View<const bf16> dout,
                             const AttentionGradients<bf16>& g) {
  const PackedRows<const bf16> rows{dout.data, a.heads * a.head_dim};
  for_head_size(a.head_dim, [&]<int D> { backward<D>(where, a, rows, g); });
}

}  // namespace libtrain::kernels
