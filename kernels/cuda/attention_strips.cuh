/// What a warp does with its strip, for all tensor-core kernels of attention: attend to keys, sum dQ over keys, sum dK and dV over
/// queries (short sequences have a backward of their own). The kernels differ in what is in shared memory when.
#pragma once
#include "kernels/cuda/attention_fragments.cuh"

namespace libtrain::kernels::attention_fragments {

/// What the scores of a unit depend on.
struct ScoreRules {
  AttentionMask mask;
  AttentionDropout dropout;
  float scale, factor;  // factor = scale log2(e)
};
__device__ inline ScoreRules score_rules(const Attention<bf16>& a, const AttentionUnit& u) {
  return {{u.keys, a.causal}, attention_dropout(a, u), float(a.scale), float(a.scale) * kLog2E};
}

/// Queries of a strip that have been attended to so far: out is sum / total.
template <int D> struct OutputStrip {
  Fragment<D> sum = {};
  float peak[2] = {-INFINITY, -INFINITY};  // highest score of each row
  float total[2] = {};                     // a lane's share
};

/// Scores → exp(scale (score - peak)). What has been summed before is to be multiplied by `rescale`. factor = scale log2(e).
template <int D, int columns> __device__ inline void online_softmax(OutputStrip<D>& out, Fragment<columns>& scores,
                                                                    float factor, float (&rescale)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float peak = out.peak[half];
#pragma unroll
    for (int n = 0; n < columns / 8; ++n) peak = fmaxf(peak, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    peak = warp_reduce<Max, 4>(peak);
    rescale[half] = ptx::exp2_approx((out.peak[half] - peak) * factor);
    const float subtract = peak * factor;
    float total = 0;
#pragma unroll
    for (int n = 0; n < columns / 8; ++n)
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e)
        total += scores[n][e] = ptx::exp2_approx(scores[n][e] * factor - subtract);
    out.total[half] = out.total[half] * rescale[half] + total;
    out.peak[half] = peak;
  }
}

template <int D> __device__ inline void rescale_sum(OutputStrip<D>& out, const float (&rescale)[2]) {
#pragma unroll
  for (int n = 0; n < D / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) out.sum[n][e] *= rescale[e / 2];
}

/// Zero where the coin says so.
template <int columns> __device__ inline void drop(Fragment<columns>& x, uint32_t coins) {
#pragma unroll
  for (int n = 0; n < columns / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) x[n][e] = coins >> (4 * n + e) & 1 ? x[n][e] : 0;
}

/// Lets the strip of queries first_query … (rows q_row … of the tile q) attend to `columns` keys first_key … (rows kv_row … of k, v).
template <int D, int columns> __device__ inline void attend(OutputStrip<D>& out, const ScoreRules& rules, RowTile<D> q,
                                                            int q_row, RowTile<D> k, RowTile<D> v, int kv_row,
                                                            int first_query, int first_key) {
  const int groups = groups_of(rules.mask.visible_keys(first_query + kStrip - 1) - first_key);
  Fragment<columns> p;
  multiply_rows(p, q, q_row, k, kv_row, groups);
  hide_keys(p, rules.mask, first_query, first_key);
  float rescale[2];
  online_softmax(out, p, rules.factor, rescale);
  rescale_sum(out, rescale);
  drop_keys(p, rules.dropout, first_query, first_key, groups);
  add_product(out.sum, p, v, kv_row, groups);
}

/// Writes output and log-sum-exp of the strip of queries first_query ….
template <int D> __device__ inline void finish(const Attention<bf16>& a, const AttentionUnit& u,
                                               const OutputStrip<D>& out, const ScoreRules& rules, int first_query) {
  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = row_sum(out.total[half]);
    factor[half] = u.keys ? rules.dropout.kept / total : 0;
    const int query = first_query + row_of(2 * half);
    if (lane() % 4 == 0 && query < u.queries)
      a.lse.data[u.head * a.query_rows + u.first_query + query] =
          u.keys ? out.peak[half] * rules.scale + logf(total) : INFINITY;
  }
  store_strip<D>(queries_of<D>(PackedRows<bf16>{a.out.data, a.heads * D}, u), first_query, out.sum, factor, false);
}

/// A strip of queries in backward.
template <int D> struct QueryStrip {
  Fragment<D> dq = {};
  float lse[2];  // of each row, times log2(e); infinite for rows that do not exist, so that their P is 0
  float d[2] = {};
};

/// What backward reads: rows of both kinds, in tiles.
template <int D> struct OperandTiles { RowTile<D> q, dout, k, v; };

/// Scores Q K^T → P, and dO V^T → P dropout'(dP), which is dS + P D, of the strip of queries first_query … with keys first_key ….
template <int D, int columns> __device__ inline void weigh(Fragment<columns>& p, Fragment<columns>& p_dp,
                                                           const QueryStrip<D>& strip, const ScoreRules& rules,
                                                           int first_query, int first_key, int groups) {
  hide_keys(p, rules.mask, first_query, first_key);
#pragma unroll
  for (int n = 0; n < columns / 8; n += 2) {
    float kept[2][4];
#pragma unroll
    for (int e = 0; e < 8; ++e)
      kept[e / 4][e % 4] = p[n + e / 4][e % 4] =
          ptx::exp2_approx(p[n + e / 4][e % 4] * rules.factor - strip.lse[e % 4 / 2]);
    if (n / 2 < groups) drop_group(kept[0], kept[1], rules.dropout, first_query, first_key + 8 * n);
#pragma unroll
    for (int e = 0; e < 8; ++e) p_dp[n + e / 4][e % 4] *= kept[e / 4][e % 4] * rules.dropout.kept;
  }
}

/// Adds the keys' share to the sums D.
template <int D, int columns> __device__ inline void add_sums(QueryStrip<D>& strip, const Fragment<columns>& p_dp) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float share = 0;
#pragma unroll
    for (int n = 0; n < columns / 8; ++n) share += p_dp[n][2 * half] + p_dp[n][2 * half + 1];
    strip.d[half] += row_sum(share);
  }
}

/// P dropout'(dP) → dS.
template <int D, int columns>
__device__ inline void subtract_sums(Fragment<columns>& p_dp, const Fragment<columns>& p, const QueryStrip<D>& strip) {
#pragma unroll
  for (int n = 0; n < columns / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) p_dp[n][e] -= p[n][e] * strip.d[e / 2];
}

/// What a pass of a strip over its keys does: the sums D have to be there before dQ can be summed.
enum class QueryPass { kSums, kGradient };

/// Takes the strip of queries through `columns` keys.
template <int D, int columns> __device__ inline void add_keys(QueryStrip<D>& strip, const ScoreRules& rules,
                                                              const OperandTiles<D>& tiles, int q_row, int kv_row,
                                                              int first_query, int first_key, QueryPass pass) {
  const int groups = groups_of(rules.mask.visible_keys(first_query + kStrip - 1) - first_key);
  Fragment<columns> p, ds;
  multiply_rows(p, tiles.q, q_row, tiles.k, kv_row, groups);
  multiply_rows(ds, tiles.dout, q_row, tiles.v, kv_row, groups);
  weigh(p, ds, strip, rules, first_query, first_key, groups);
  if (pass == QueryPass::kSums) return add_sums(strip, ds);
  subtract_sums(ds, p, strip);
  add_product(strip.dq, ds, tiles.k, kv_row, groups);
}

/// A strip of keys in backward.
template <int D> struct KeyStrip {
  Fragment<D> dk = {}, dv = {};
};

/// What queries bring along to keys: one for each row of a tile; lse is times log2(e), and infinite for rows that do not exist.
struct QuerySums {
  float *lse, *d;
};

/// Scores K Q^T → P, of the strip of keys first_key … with queries first_query …, whose sums begin with q_row.
template <int columns> __device__ inline void weigh_rows(Fragment<columns>& p, const ScoreRules& rules,
                                                         const QuerySums& sums, int q_row, int first_key,
                                                         int first_query) {
  hide_keys_in_rows(p, rules.mask, first_key, first_query);
#pragma unroll
  for (int n = 0; n < columns / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      p[n][e] = ptx::exp2_approx(p[n][e] * rules.factor - sums.lse[q_row + 8 * n + column_of(e)]);
}

/// V dO^T → dS, likewise.
template <int columns> __device__ inline void differentiate_rows(Fragment<columns>& ds, const Fragment<columns>& p,
                                                                 const ScoreRules& rules, const QuerySums& sums,
                                                                 int q_row, uint32_t coins) {
#pragma unroll
  for (int n = 0; n < columns / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float dp = coins >> (4 * n + e) & 1 ? ds[n][e] * rules.dropout.kept : 0;
      ds[n][e] = p[n][e] * (dp - sums.d[q_row + 8 * n + column_of(e)]);
    }
}

/// Takes the strip of keys first_key … (rows k_row … of k, v) through `columns` queries first_query … (rows q_row … of q, dout, sums).
template <int D, int columns> __device__ inline void add_queries(KeyStrip<D>& strip, const ScoreRules& rules,
                                                                 const OperandTiles<D>& tiles, const QuerySums& sums,
                                                                 int k_row, int q_row, int first_key, int first_query,
                                                                 int groups) {
  Fragment<columns> p, ds;
  multiply_rows(p, tiles.k, k_row, tiles.q, q_row, groups);
  multiply_rows(ds, tiles.v, k_row, tiles.dout, q_row, groups);
  weigh_rows(p, rules, sums, q_row, first_key, first_query);
  const uint32_t coins = coins_of_rows<columns>(rules.dropout, first_key, first_query, groups);
  differentiate_rows(ds, p, rules, sums, q_row, coins);
  drop(p, coins);
  add_product(strip.dv, p, tiles.dout, q_row, groups);
  add_product(strip.dk, ds, tiles.q, q_row, groups);
}

/// Where a sink that is laid out as `like` has a head's rows.
template <class T> __device__ inline PackedRows<T> sink_rows(Sink<T> sink, PackedRows<const T> like) {
  return {sink.data, like.stride};
}

/// Writes dQ of the strip of queries first_query …, if it is wanted and there are such: the sum times its factor.
template <int D> __device__ inline void store_gradient(const Attention<bf16>& a, const AttentionUnit& u, Sink<bf16> dq,
                                                       const Fragment<D>& sum, float factor, int first_query) {
  const float factors[2] = {factor, factor};
  if (dq.data && first_query < u.queries)
    store_strip<D>(queries_of<D>(sink_rows(dq, a.q), u), first_query, sum, factors, dq.accumulate);
}

/// Writes dK and dV of the strip of keys first_key …, where they are wanted.
template <int D> __device__ inline void store_gradients(const Attention<bf16>& a, const AttentionUnit& u, Sink<bf16> dk,
                                                        Sink<bf16> dv, const KeyStrip<D>& strip,
                                                        const ScoreRules& rules, int first_key) {
  const float scale[2] = {rules.scale, rules.scale}, kept[2] = {rules.dropout.kept, rules.dropout.kept};
  if (dk.data) store_strip<D>(keys_of<D>(sink_rows(dk, a.k), u), first_key, strip.dk, scale, dk.accumulate);
  if (dv.data) store_strip<D>(keys_of<D>(sink_rows(dv, a.v), u), first_key, strip.dv, kept, dv.accumulate);
}

/// log-sum-exp of a query, times log2(e); infinite for one that does not exist.
__device__ inline float load_lse(const Attention<bf16>& a, const AttentionUnit& u, int query) {
  return query < u.queries ? a.lse.data[u.head * a.query_rows + u.first_query + query] * kLog2E : INFINITY;
}

}  // namespace libtrain::kernels::attention_fragments
