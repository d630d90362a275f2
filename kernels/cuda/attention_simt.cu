// Shapes    q, out, dout, dq [query rows, heads * head_dim]; k, v, dk, dv [key rows, heads * head_dim], each with a row stride of its own.
// Mapping   Everything is made of products of 32 x 32 tiles in shared memory, 128 threads a block: thread (ty, tx) = (t / 8, t % 8) owns
//           rows 2 ty and 2 ty + 1 and four columns. A block owns 32 queries (forward, dQ) or 32 keys (dK, dV) of one head of one sequence,
//           and 64 columns of the result ("slab"); it loops over the tiles of keys (of queries). Wider heads take several blocks, which
//           compute the scores anew. Blocks at the end of the grid zero the rows of no sequence.
// Traffic   Forward reads q once for each tile of keys and k, v once for each tile of queries (from the caches: 32 rows of a head are
//           8 KB), writes out and lse. 4 S^2 D FLOP; a thread reads 6 vectors of 16 bytes from shared memory for 32 FMA in f32, so that
//           shared memory bounds it. Backward: 18 S^2 D, in two kernels, so that no gradient has two writers.
// Numerics  Everything in f32 (f64 for f64), bf16 too: scores, online softmax, sums. Results are rounded once. D =
//           rowsum(P * dP) takes a pass of its own: rowsum(dO * O) would bring in the rounding of a bf16 O, which is felt where few keys
//           are seen.
// Source    Milakov, Gimelshein, 2018 (online softmax); Dao, FlashAttention-2, 2023.
// Measured  docs/kernels.md.
#include "kernels/cuda/attention_simt.cuh"
#include "kernels/cuda/math.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_simt;

/// How the grid is divided. `packs`: every row of every operand can be read in packs of 16 bytes.
struct Plan {
  int64_t units, blocks;  // blocks: without those of the tail
  int slabs;
  bool packs;
};

/// What a block owns: rows first … + 31 of a unit, columns first_column … of the result.
struct Work {
  AttentionUnit unit;
  int first, first_column;
  bool first_slab;
};

/// Units lie next to each other in the grid, so that tiles of one number run together.
template <class T> __device__ inline Work work_of_block(const Attention<T>& a, const Plan& plan) {
  const int64_t rest = blockIdx.x / plan.units;
  const int slab = int(rest % plan.slabs);
  return {attention_unit(a, blockIdx.x % plan.units), int(rest / plan.slabs) * kTile, slab * kSlab * kTile, slab == 0};
}

/// Coins of a thread's scores at queries `first_query` + row() and keys first_key + column(j): bit (r, j) of the result.
__device__ inline uint32_t coins_of_part(const AttentionDropout& dropout, int first_query, int first_key) {
  if (!dropout.active) return ~0u;
  const int lane = int(threadIdx.x) % kLanes;  // draws for row lane / 4 the keys 8 (lane % 4) …
  const uint2 drawn =
      gather_eight_bytes<1>(dropout.coins(first_query + row() + lane / kParts, first_key / 8 + lane % kParts));
  uint32_t coins = 0;
#pragma unroll
  for (int j = 0; j < kParts; ++j) {
    coins |= (drawn.x >> (8 * j + lane) & 1) << j;
    coins |= (drawn.y >> (8 * j + lane) & 1) << (kParts + j);
  }
  return coins;
}
__device__ inline bool is_kept(uint32_t coins, int r, int j) { return coins >> (r * kParts + j) & 1; }

/// The online softmax of a row: exp(score - peak) and their sum so far.
template <class A> struct Softmax {
  A peak = -A(INFINITY), sum = 0;

  /// Scores → exp(score - peak); returns the factor for what was summed before.
  __device__ A step(A (&scores)[kParts]) {
    A highest = peak;
#pragma unroll
    for (int j = 0; j < kParts; ++j) highest = scores[j] > highest ? scores[j] : highest;
    highest = warp_reduce<Max, kLanes>(highest);
    const A factor = peak == highest ? A(1) : CudaMath::exp(peak - highest);
    A total = 0;
#pragma unroll
    for (int j = 0; j < kParts; ++j) total += scores[j] = CudaMath::exp(scores[j] - highest);
    sum = sum * factor + total;
    peak = highest;
    return factor;
  }
};

/// Output and log-sum-exp of 32 queries.
template <class T> __global__ void __launch_bounds__(kThreads, 2) attention_forward_kernel(Attention<T> a, Plan plan) {
  using A = accum_t<T>;
  __shared__ Tile<A> x_tile, y_tile, p_tile;
  if (blockIdx.x >= plan.blocks) return clear_output_tail(a);
  const Work work = work_of_block(a, plan);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.queries) return;
  const auto q = rows_of(a.q, u.first_query, u.queries, u.head, a.head_dim);
  const auto k = rows_of(a.k, u.first_key, u.keys, u.head, a.head_dim),
             v = rows_of(a.v, u.first_key, u.keys, u.head, a.head_dim);
  const AttentionDropout dropout = attention_dropout(a, u);
  const AttentionMask mask{u.keys, a.causal};
  Part<A> result[kSlab] = {};
  Softmax<A> softmax[kRows];
#pragma unroll 1
  for (int first = 0; first < mask.visible_keys(work.first + kTile - 1); first += kTile) {
    Part<A> p;
    score_tile(p, x_tile, y_tile, q, work.first, k, first, plan.packs);
    const uint32_t coins = coins_of_part(dropout, work.first, first);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int visible = mask.visible_keys(work.first + row() + r);
#pragma unroll
      for (int j = 0; j < kParts; ++j) p[r][j] = first + column(j) < visible ? p[r][j] * A(a.scale) : -A(INFINITY);
      const A factor = softmax[r].step(p[r]);
#pragma unroll
      for (int j = 0; j < kParts; ++j) *p_tile.at(row() + r, column(j)) = is_kept(coins, r, j) ? p[r][j] : A(0);
#pragma unroll
      for (int s = 0; s < kSlab; ++s)
#pragma unroll
        for (int c = 0; c < kParts; ++c) result[s][r][c] *= factor;
    }
    add_to_slab(result, p_tile, y_tile, v, first, work.first_column, plan.packs);
  }
  A factor[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const A sum = warp_reduce<Sum, kLanes>(softmax[r].sum);
    const int query = work.first + row() + r;
    factor[r] = u.keys ? A(dropout.kept) / sum : A(0);
    if (work.first_slab && threadIdx.x % kLanes == 0 && query < u.queries)
      a.lse.data[u.head * a.query_rows + u.first_query + query] =
          u.keys ? softmax[r].peak + CudaMath::log(sum) : A(INFINITY);
  }
  const PackedRows<T> out{a.out.data, a.heads * a.head_dim};
  store_slab(rows_of(out, u.first_query, u.queries, u.head, a.head_dim), work.first, work.first_column, result, factor,
             false, plan.packs);
}

/// What backward needs of a thread's two queries. Those that do not exist get a log-sum-exp that makes their probabilities 0.
template <class A> struct RowSums { A lse[kRows], d[kRows]; };

/// Index of a query's sums in lse and in workspace.
template <class T> __device__ inline int64_t sums_at(const Attention<T>& a, const AttentionUnit& u, int query) {
  return u.head * a.query_rows + u.first_query + query;
}

/// For queries first + row() …; D, if wanted, as the kernel before has left it in workspace, else 0.
template <class T>
__device__ inline RowSums<accum_t<T>> load_sums(const Attention<T>& a, const AttentionUnit& u, int first, bool with_d) {
  RowSums<accum_t<T>> sums;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int query = first + row() + r;
    sums.lse[r] = query < u.queries ? a.lse.data[sums_at(a, u, query)] : accum_t<T>(INFINITY);
    sums.d[r] = with_d && query < u.queries ? a.workspace.data[sums_at(a, u, query)] : accum_t<T>(0);
  }
  return sums;
}

/// Scores → dropout(P), which dV is made of, and dropout(P)'s gradients → dS, for a thread's queries and keys.
template <class A> __device__ inline void score_gradients(Part<A>& p, Part<A>& ds, const RowSums<A>& sums,
                                                          const AttentionMask& mask, const AttentionDropout& dropout,
                                                          A scale, int first_query, int first_key) {
  const uint32_t coins = coins_of_part(dropout, first_query, first_key);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int visible = mask.visible_keys(first_query + row() + r);
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const bool seen = first_key + column(j) < visible;
      const A probability = seen ? CudaMath::exp(p[r][j] * scale - sums.lse[r]) : A(0);
      p[r][j] = is_kept(coins, r, j) ? probability * A(dropout.kept) : A(0);
      ds[r][j] = p[r][j] * ds[r][j] - probability * sums.d[r];
    }
  }
}

/// A thread's share of D → D, which the block of the first slab leaves in workspace.
template <class T, class A>
__device__ inline void finish_sums(const Attention<T>& a, const Work& work, const A (&share)[kRows], RowSums<A>& sums) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int query = work.first + row() + r;
    sums.d[r] = warp_reduce<Sum, kLanes>(share[r]);
    if (work.first_slab && threadIdx.x % kLanes == 0 && query < work.unit.queries)
      a.workspace.data[sums_at(a, work.unit, query)] = sums.d[r];
  }
}

/// dQ of 32 queries; leaves D in workspace.
template <class T> __global__ void __launch_bounds__(kThreads, 2)
    attention_dq_kernel(Attention<T> a, PackedRows<const T> dout_rows, Sink<T> dq, Plan plan) {
  using A = accum_t<T>;
  __shared__ Tile<A> x_tile, y_tile, ds_tile;
  if (blockIdx.x >= plan.blocks) return clear_gradient_tail(a, dq, a.q, a.query_ends, a.query_rows);
  const Work work = work_of_block(a, plan);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.queries) return;
  const auto q = rows_of(a.q, u.first_query, u.queries, u.head, a.head_dim),
             dout = rows_of(dout_rows, u.first_query, u.queries, u.head, a.head_dim);
  const auto k = rows_of(a.k, u.first_key, u.keys, u.head, a.head_dim),
             v = rows_of(a.v, u.first_key, u.keys, u.head, a.head_dim);
  const AttentionDropout dropout = attention_dropout(a, u);
  const AttentionMask mask{u.keys, a.causal};
  RowSums<A> sums = load_sums(a, u, work.first, false);
  A d[kRows] = {};
  Part<A> result[kSlab] = {};
  for (int pass = 0; pass < (dq.data ? 2 : 1); ++pass) {  // the first sums P dropout'(dP), which is dS without D
#pragma unroll 1
    for (int first = 0; first < mask.visible_keys(work.first + kTile - 1); first += kTile) {
      Part<A> p, ds;
      score_tile(p, x_tile, y_tile, q, work.first, k, first, plan.packs);
      score_tile(ds, x_tile, y_tile, dout, work.first, v, first, plan.packs);
      score_gradients(p, ds, sums, mask, dropout, A(a.scale), work.first, first);
      if (pass == 0) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) d[r] += ds[r][0] + ds[r][1] + ds[r][2] + ds[r][3];
        continue;
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int j = 0; j < kParts; ++j) *ds_tile.at(row() + r, column(j)) = ds[r][j];
      add_to_slab(result, ds_tile, y_tile, k, first, work.first_column, plan.packs);
    }
    if (pass == 0) finish_sums(a, work, d, sums);
  }
  if (!dq.data) return;
  const A factor[kRows] = {A(a.scale), A(a.scale)};
  const Rows<T> to = rows_of(PackedRows<T>{dq.data, a.q.stride}, u.first_query, u.queries, u.head, a.head_dim);
  store_slab(to, work.first, work.first_column, result, factor, dq.accumulate, plan.packs);
}

/// dK and dV of 32 keys, with D from workspace. Scores are queries by keys, as everywhere; they are stored transposed.
template <class T> __global__ void __launch_bounds__(kThreads, 2)
    attention_dkv_kernel(Attention<T> a, PackedRows<const T> dout_rows, Sink<T> dk, Sink<T> dv, Plan plan) {
  using A = accum_t<T>;
  __shared__ Tile<A> x_tile, y_tile, p_tile, ds_tile;
  if (blockIdx.x >= plan.blocks) {
    clear_gradient_tail(a, dk, a.k, a.key_ends, a.key_rows);
    return clear_gradient_tail(a, dv, a.v, a.key_ends, a.key_rows);
  }
  const Work work = work_of_block(a, plan);
  const AttentionUnit& u = work.unit;
  if (work.first >= u.keys) return;
  const auto q = rows_of(a.q, u.first_query, u.queries, u.head, a.head_dim),
             dout = rows_of(dout_rows, u.first_query, u.queries, u.head, a.head_dim);
  const auto k = rows_of(a.k, u.first_key, u.keys, u.head, a.head_dim),
             v = rows_of(a.v, u.first_key, u.keys, u.head, a.head_dim);
  const AttentionDropout dropout = attention_dropout(a, u);
  const AttentionMask mask{u.keys, a.causal};
  Part<A> of_k[kSlab] = {}, of_v[kSlab] = {};
#pragma unroll 1
  for (int first = a.causal ? work.first : 0; first < u.queries; first += kTile) {
    const RowSums<A> sums = load_sums(a, u, first, true);
    Part<A> p, ds;
    score_tile(p, x_tile, y_tile, q, first, k, work.first, plan.packs);
    score_tile(ds, x_tile, y_tile, dout, first, v, work.first, plan.packs);
    score_gradients(p, ds, sums, mask, dropout, A(a.scale), first, work.first);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kParts; ++j) {
        *p_tile.at(column(j), row() + r) = p[r][j];
        *ds_tile.at(column(j), row() + r) = ds[r][j];
      }
    add_to_slab(of_v, p_tile, y_tile, dout, first, work.first_column, plan.packs);
    add_to_slab(of_k, ds_tile, y_tile, q, first, work.first_column, plan.packs);
  }
  const A scale[kRows] = {A(a.scale), A(a.scale)}, one[kRows] = {1, 1};
  const auto rows_like = [&](Sink<T> sink, PackedRows<const T> like) {
    return rows_of(PackedRows<T>{sink.data, like.stride}, u.first_key, u.keys, u.head, a.head_dim);
  };
  if (dk.data) store_slab(rows_like(dk, a.k), work.first, work.first_column, of_k, scale, dk.accumulate, plan.packs);
  if (dv.data) store_slab(rows_like(dv, a.v), work.first, work.first_column, of_v, one, dv.accumulate, plan.packs);
}

/// Whether rows of a matrix begin at multiples of 16 bytes, and heads too.
template <class T> bool rows_fit(const Attention<T>& a, const T* data, int64_t stride) {
  return !data || (packs_fit(data, stride) && packs_fit(data, a.head_dim));
}
template <class T> bool rows_fit(const Attention<T>& a) {
  return rows_fit(a, a.q.data, a.q.stride) && rows_fit(a, a.k.data, a.k.stride) && rows_fit(a, a.v.data, a.v.stride) &&
         rows_fit(a, static_cast<const T*>(a.out.data), a.head_dim);
}

/// The division into tiles of the longest sequence's `rows`.
template <class T> Plan plan_for(const Attention<T>& a, int64_t rows, bool packs) {
  const int64_t slabs = (a.head_dim + kSlab * kTile - 1) / (kSlab * kTile), tiles = (rows + kTile - 1) / kTile;
  const int64_t units = attention_units(a);
  return {units, units * tiles * slabs, int(slabs), packs};
}

LaunchShape shape_of(const Plan& plan) { return {blocks_for(plan.blocks + kTailBlocks, 1), kThreads}; }

}  // namespace

template <class T> void attention_forward_simt(Cuda where, const Attention<T>& a) {
  const Plan plan = plan_for(a, a.max_queries, rows_fit(a));
  launch(where, "attention_forward", shape_of(plan), attention_forward_kernel<T>, a, plan);
}

template <class T>
void attention_backward_simt(Cuda where, const Attention<T>& a, View<const T> dout, const AttentionGradients<T>& g) {
  const bool packs = rows_fit(a) && rows_fit<T>(a, dout.data, a.head_dim) && rows_fit<T>(a, g.dq.data, a.q.stride) &&
                     rows_fit<T>(a, g.dk.data, a.k.stride) && rows_fit<T>(a, g.dv.data, a.v.stride);
  const PackedRows<const T> dout_rows{dout.data, a.heads * a.head_dim};
  const Plan queries = plan_for(a, a.max_queries, packs), keys = plan_for(a, a.max_keys, packs);
  launch(where, "attention_dq", shape_of(queries), attention_dq_kernel<T>, a, dout_rows, g.dq, queries);
  if (g.dk || g.dv)
    launch(where, "attention_dkv", shape_of(keys), attention_dkv_kernel<T>, a, dout_rows, g.dk, g.dv, keys);
}

#define INSTANTIATE(T)                                             \
  template void attention_forward_simt(Cuda, const Attention<T>&); \
  template void attention_backward_simt(Cuda, const Attention<T>&, View<const T>, const AttentionGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
