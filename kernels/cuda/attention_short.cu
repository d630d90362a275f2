// Shapes    q, out, dout, dq [query rows, heads * D]; k, v, dk, dv [key rows, heads * D], D in {32, 64, 96, 128}; no sequence is longer
//           than 128, and 128 only for D <= 64.
// Mapping   A unit (one head of one sequence) lies in shared memory whole. It has a warp for every 16 rows that the longest sequence may
//           have, 1, 2, 3, 4 or 8; a block has one unit, or as many as fit into 4 warps. A warp owns 16 queries. In backward it makes P, dS
//           and dQ of them, and hands P and dS in bf16 to the strips of keys, 64 keys at a time: dV and dK of each strip are then two
//           works that warps take in turn. Where there are more than 64 keys, the sums D are made first. Warps without rows idle, groups of 16
//           absent keys are left out. Blocks at the end zero the rows of no sequence.
// Traffic   Forward reads q, k, v and writes out, each once: 8 D bytes a token. Backward reads q, k, v, dout and writes dq, dk, dv: 14 D.
//           Bound by memory and by instructions: 4 S^2 D FLOP, S^2 exponentials and coins forward, 10 S^2 D and S^2 backward (above 64
//           keys 14 and 2).
// Numerics  Products of bf16 summed in f32; scores, softmax, D and dP in f32. P and dS are rounded to bf16 for the second product, the
//           sum of a row is that of the unrounded P. D = rowsum(P * dP): taken from the rounded output it would be felt where few keys are
//           seen. Exponentials are base 2 with a relative error of 2^-22.
// Source    Dao et al., FlashAttention, 2022; Dao, FlashAttention-2, 2023.
// Measured  docs/kernels.md.
#include "kernels/cuda/attention_strips.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_fragments;

/// How a block is made up whose sequences have up to `strips` times 16 rows: 1, 2, 3, 4 or 8. Known to the compiler, for then most of
/// the addresses in shared memory are constants.
template <int D, int strips> struct Shape {
  static constexpr int kStrips = strips, kRows = strips * kStrip, kThreads = strips * kWarp;  // of a unit
  static constexpr int kUnits = strips < 4 ? 4 / strips : 1;                                  // of a block
  static constexpr int kKeys = kRows < 64 ? kRows : 64;  // weighed at a time in backward
  // Attended to at a time in forward: with more, two blocks of eight strips would not have the registers.
  static constexpr int kForwardKeys = strips == 8 ? 32 : kKeys;
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

/// Blocks that a multiprocessor shall have registers for.
template <int D, int strips> constexpr int kForwardBlocks = D > 96        ? 1
                                                            : strips == 8 ? 2
                                                            : D > 64      ? 4
                                                            : strips == 4 ? 5
                                                            : strips == 3 ? 8
                                                                          : 6;

/// Output and log-sum-exp of whole sequences.
template <int D, int strips>
__global__ void __launch_bounds__(Shape<D, strips>::kUnits* Shape<D, strips>::kThreads, kForwardBlocks<D, strips>)
    short_forward_kernel(Attention<bf16> a, unsigned units) {
  using Of = Shape<D, strips>;
  LIBTRAIN_DYNAMIC_SHARED(shared);
  if (blockIdx.x + kTailBlocks >= gridDim.x) return clear_output_tail(a);
  const Place place = place_of<Of>(a, units);
  const AttentionUnit& u = place.unit;
  bf16* const first_row = reinterpret_cast<bf16*>(shared) + place.group * 3 * Of::kRows * D;
  const RowTile<D> q{first_row}, k{first_row + Of::kRows * D}, v{first_row + 2 * Of::kRows * D};
  load_all<Of>(q, queries_of<D>(a.q, u), place);
  load_all<Of>(k, keys_of<D>(a.k, u), place);
  load_all<Of>(v, keys_of<D>(a.v, u), place);
  ptx::cp_async_commit();
  const ScoreRules rules = score_rules(a, u);  // reads dropout's state while the rows are under way
  ptx::cp_async_wait<0>();
  __syncthreads();
  if (place.first >= u.queries) return;
  OutputStrip<D> out;
  const int keys = rules.mask.visible_keys(place.first + kStrip - 1);
  const auto attend_from = [&](int first_key) {
    attend<D, Of::kForwardKeys>(out, rules, q, place.first, k, v, first_key, place.first, first_key);
  };
  if constexpr (Of::kForwardKeys == Of::kRows) {
    if (keys > 0) attend_from(0);
  } else {
#pragma unroll 1
    for (int first_key = 0; first_key < keys; first_key += Of::kForwardKeys) attend_from(first_key);
  }
  finish(a, u, out, rules, place.first);
}

/// What strips of queries hand to strips of keys, through shared memory: a weight in bf16 for each query (row) and each of kKeys keys.
template <int kKeys> struct WeightTile {
  static constexpr int kPitch = kKeys > 32 ? 64 : 32;
  RowTile<kPitch> tile;

  /// 16 queries by 16 keys as pack_factor packs them.
  __device__ void put(const uint32_t (&word)[4], int query, int key) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) store_4(tile.chunk(query + row_of(i % 2 * 2), key / 8 + i / 2) + column_of(0), word[i]);
  }
  /// Their transpose as the first factor of a product.
  __device__ void get(uint32_t (&a)[4], int query, int key) const {
    ptx::ldmatrix_x4_trans(a, tile.chunk(query + lane() / 16 * 8 + lane() % 8, key / 8 + lane() / 8 % 2));
  }
};

/// What a block has of a unit in backward: rows, P after dropout, and dS, both for kKeys keys at a time.
template <class Of, int D> struct UnitTiles {
  OperandTiles<D> rows;
  WeightTile<Of::kKeys> p, ds;

  static constexpr int kElements = Of::kRows * (4 * D + 2 * WeightTile<Of::kKeys>::kPitch);

  __device__ explicit UnitTiles(bf16* first)
      : rows{{first}, {first + Of::kRows * D}, {first + 2 * Of::kRows * D}, {first + 3 * Of::kRows * D}},
        p{{first + 4 * Of::kRows * D}},
        ds{{first + Of::kRows * (4 * D + WeightTile<Of::kKeys>::kPitch)}} {}
};

/// A strip of queries in backward. Factors that all terms share (the scale, 1 / (1 - p) of dropout) are left to the end.
template <class Of, int D> struct QueryWork {
  static constexpr int kKeys = Of::kKeys;
  const ScoreRules& rules;
  const UnitTiles<Of, D>& tiles;
  int first;
  int groups;       // of 16 keys, that it sees
  float lse[2];     // of each row, times log2(e); infinite for rows that do not exist, so that their P is 0
  float d[2] = {};  // the sums D; before sum_up() a lane's share

  /// P, and P dropout'(dP), with 16 keys; P after dropout packed as a factor.
  __device__ void weigh(Fragment<kStrip>& p, Fragment<kStrip>& p_dp, uint32_t (&kept_factor)[4], int key) const {
    multiply_rows(p, tiles.rows.q, first, tiles.rows.k, key, 1);
    multiply_rows(p_dp, tiles.rows.dout, first, tiles.rows.v, key, 1);
    hide_keys(p, rules.mask, first, key);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float& x = p[e / 4][e % 4];
      x = ptx::exp2_approx(x * rules.factor - lse[e % 4 / 2]);
    }
    Fragment<kStrip> kept = p;
    drop_keys(kept, rules.dropout, first, key, 1);
#pragma unroll
    for (int e = 0; e < 8; ++e) p_dp[e / 4][e % 4] *= kept[e / 4][e % 4];
    pack_factor(kept_factor, kept, 0);
  }
  __device__ void add_sums(const Fragment<kStrip>& p_dp) {
#pragma unroll
    for (int e = 0; e < 8; ++e) d[e % 4 / 2] += p_dp[e / 4][e % 4];
  }
  __device__ void sum_up() {
#pragma unroll
    for (int half = 0; half < 2; ++half) d[half] = row_sum(d[half]);
  }
  /// dQ += dS K, where dS = P dropout'(dP) - P D, which goes to its tile.
  __device__ void differentiate(Fragment<D>& dq, const Fragment<kStrip>& p, Fragment<kStrip>& p_dp, int key) const {
#pragma unroll
    for (int e = 0; e < 8; ++e) p_dp[e / 4][e % 4] -= p[e / 4][e % 4] * d[e % 4 / 2];
    uint32_t factor[4];
    pack_factor(factor, p_dp, 0);
    tiles.ds.put(factor, first, key % kKeys);
    add_rows(dq, factor, tiles.rows.k, key);
  }

  /// All in one go: the tiles hold all keys, registers what waits for the sums D.
  __device__ void run(Fragment<D>& dq) {
    Fragment<kStrip> p[kKeys / kStrip], p_dp[kKeys / kStrip];
#pragma unroll
    for (int n = 0; n < kKeys / kStrip; ++n) {
      if (n >= groups) break;
      uint32_t kept[4];
      weigh(p[n], p_dp[n], kept, n * kStrip);
      tiles.p.put(kept, first, n * kStrip);
      add_sums(p_dp[n]);
    }
    sum_up();
#pragma unroll
    for (int n = 0; n < kKeys / kStrip; ++n) {
      if (n >= groups) break;
      differentiate(dq, p[n], p_dp[n], n * kStrip);
    }
  }
  /// The sums D alone, for run_part().
  __device__ void sum() {
#pragma unroll 1
    for (int n = 0; n < groups; ++n) {
      Fragment<kStrip> p, p_dp;
      uint32_t kept[4];
      weigh(p, p_dp, kept, n * kStrip);
      add_sums(p_dp);
    }
    sum_up();
  }
  /// The keys first_key …, as many as the tiles hold.
  __device__ void run_part(Fragment<D>& dq, int first_key) const {
    const int end = min(groups * kStrip, first_key + kKeys);
#pragma unroll 1
    for (int key = first_key; key < end; key += kStrip) {
      Fragment<kStrip> p, p_dp;
      uint32_t kept[4];
      weigh(p, p_dp, kept, key);
      tiles.p.put(kept, first, key % kKeys);
      differentiate(dq, p, p_dp, key);
    }
  }
};

/// What dK and dV, sums over queries of transposed weights times rows, have apart.
template <int D, int kKeys> struct KeySum {
  HeadRows<bf16> to;
  bool accumulate;
  WeightTile<kKeys> weights;
  RowTile<D> rows;
  float factor;
};

/// One of them, of the strip of keys first_key + `key` ….
template <int D, int kKeys> __device__ inline void gradient_of_keys(const KeySum<D, kKeys>& of, const AttentionUnit& u,
                                                                    int first_query, int first_key, int key) {
  Fragment<D> sum = {};
#pragma unroll 1
  for (int query = first_query; query < u.queries; query += kStrip) {
    uint32_t transposed[4];
    of.weights.get(transposed, query, key);
    add_rows(sum, transposed, of.rows, query);
  }
  const float factors[2] = {of.factor, of.factor};
  store_strip<D>(of.to, first_key + key, sum, factors, of.accumulate);
}

/// dK and dV of keys first_key …, kKeys at most. Strips, and of each first dV and then dK, are dealt out to the unit's warps.
template <class Of, int D>
__device__ inline void gradients_of_keys(const Attention<bf16>& a, const AttentionUnit& u,
                                         const AttentionGradients<bf16>& g, const ScoreRules& rules,
                                         const UnitTiles<Of, D>& tiles, const Place& place, int first_key) {
  constexpr int kKeyStrips = Of::kKeys / kStrip;
  const float kept = rules.dropout.kept;
#pragma unroll 1
  for (int work = place.thread / kWarp; work < 2 * kKeyStrips; work += Of::kStrips) {
    const bool values = work < kKeyStrips;
    const int key = work % kKeyStrips * kStrip;
    bf16* const sink = values ? g.dv.data : g.dk.data;  // single members: a choice between structures becomes memory
    if (first_key + key >= u.keys || !sink) continue;
    const int64_t stride = values ? a.v.stride : a.k.stride;
    const KeySum<D, Of::kKeys> of{keys_of<D>(PackedRows<bf16>{sink, stride}, u),
                                  values ? g.dv.accumulate : g.dk.accumulate,
                                  {{values ? tiles.p.tile.data : tiles.ds.tile.data}},
                                  {values ? tiles.rows.dout.data : tiles.rows.q.data},
                                  values ? kept : kept * rules.scale};
    gradient_of_keys(of, u, a.causal ? first_key + key : 0, first_key, key);
  }
}

template <int D, int strips> constexpr int kBackwardBlocks = D > 64 || strips == 8 ? 1
                                                             : strips == 4         ? 3
                                                             : strips == 3         ? 5
                                                                                   : 4;

/// dQ, dK and dV of whole sequences.
template <int D, int strips>
__global__ void __launch_bounds__(Shape<D, strips>::kUnits* Shape<D, strips>::kThreads, kBackwardBlocks<D, strips>)
    short_backward_kernel(Attention<bf16> a, PackedRows<const bf16> dout, AttentionGradients<bf16> g, unsigned units) {
  using Of = Shape<D, strips>;
  LIBTRAIN_DYNAMIC_SHARED(shared);
  if (blockIdx.x + kTailBlocks >= gridDim.x) {
    clear_gradient_tail(a, g.dq, a.q, a.query_ends, a.query_rows);
    clear_gradient_tail(a, g.dk, a.k, a.key_ends, a.key_rows);
    return clear_gradient_tail(a, g.dv, a.v, a.key_ends, a.key_rows);
  }
  const Place place = place_of<Of>(a, units);
  const AttentionUnit& u = place.unit;
  const int first = place.first;
  const float lse[2] = {load_lse(a, u, first + row_of(0)), load_lse(a, u, first + row_of(2))};  // asked for first
  const UnitTiles<Of, D> tiles(reinterpret_cast<bf16*>(shared) + place.group * UnitTiles<Of, D>::kElements);
  load_all<Of>(tiles.rows.q, queries_of<D>(a.q, u), place);
  load_all<Of>(tiles.rows.k, keys_of<D>(a.k, u), place);
  load_all<Of>(tiles.rows.dout, queries_of<D>(dout, u), place);
  load_all<Of>(tiles.rows.v, keys_of<D>(a.v, u), place);
  ptx::cp_async_commit();
  const ScoreRules rules = score_rules(a, u);
  QueryWork<Of, D> work{rules,
                        tiles,
                        first,
                        first < u.queries ? groups_of(rules.mask.visible_keys(first + kStrip - 1)) : 0,
                        {lse[0], lse[1]}};
  ptx::cp_async_wait<0>();
  __syncthreads();
  Fragment<D> dq = {};
  if constexpr (Of::kKeys == Of::kRows) {
    work.run(dq);
    store_gradient(a, u, g.dq, dq, rules.scale * rules.dropout.kept, first);
    __syncthreads();  // P and dS are there
    gradients_of_keys(a, u, g, rules, tiles, place, 0);
  } else {
    work.sum();
#pragma unroll 1
    for (int first_key = 0; first_key < Of::kRows; first_key += Of::kKeys) {
      if (first_key > 0) __syncthreads();  // the tiles have been read
      work.run_part(dq, first_key);
      __syncthreads();  // P and dS are there
      gradients_of_keys(a, u, g, rules, tiles, place, first_key);
    }
    store_gradient(a, u, g.dq, dq, rules.scale * rules.dropout.kept, first);
  }
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

template <class Of> LaunchShape shape_for(int64_t units, int elements) {
  return {blocks_for(units, Of::kUnits) + kTailBlocks, unsigned(Of::kUnits * Of::kThreads),
          Of::kUnits * size_t(elements) * sizeof(bf16)};
}

}  // namespace

void attention_forward_short(Cuda where, const Attention<bf16>& a) {
  const int64_t units = attention_units(a);
  for_head_size(a.head_dim, [&]<int D> {
    for_strips<D>(a, [&]<int strips>() {
      using Of = Shape<D, strips>;
      launch(where, "attention_short_forward", shape_for<Of>(units, 3 * Of::kRows * D), short_forward_kernel<D, strips>,
             a, unsigned(units));
    });
  });
}

void attention_backward_short(Cuda where, const Attention<bf16>& a, View<const bf16> dout,
                              const AttentionGradients<bf16>& g) {
  const int64_t units = attention_units(a);
  for_head_size(a.head_dim, [&]<int D> {
    for_strips<D>(a, [&]<int strips>() {
      using Of = Shape<D, strips>;
      launch(where, "attention_short_backward", shape_for<Of>(units, UnitTiles<Of, D>::kElements),
             short_backward_kernel<D, strips>, a, PackedRows<const bf16>{dout.data, a.heads * D}, g, unsigned(units));
    });
  });
}

}  // namespace libtrain::kernels
