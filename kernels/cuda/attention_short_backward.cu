// Shapes    q, dout, dq [query rows, heads * D]; k, v, dk, dv [key rows, heads * D], D in {32, 64, 96, 128}; no sequence is longer than 128,
//           and 128 only for D <= 64.
// Mapping   Blocks as in attention_short.cu. A warp makes P, dS and dQ of its 16 queries, and hands P and dS in bf16 to the strips of keys
//           through shared memory: dV and dK of each strip are then two works that warps take in turn. Up to 48 keys, registers hold P and
//           dP until the sums D are known. Above, P waits in shared memory, where its sign tells what dropout left out. dV is made of it;
//           then dS, for which dP is made once more, takes its place.
// Traffic   Reads q, k, v, dout and writes dq, dk, dv, each once: 14 D bytes a token. Bound by memory and by instructions: 10 S^2 D FLOP,
//           S^2 exponentials and coins; above 48 keys 12 S^2 D.
// Numerics  Products of bf16 summed in f32; P, D and dP in f32. P and dS are rounded to bf16 for the second product; above 48 keys dS is made
//           of the rounded P. D = rowsum(P * dP), of the unrounded P: taken from the rounded output it would be felt where few keys are
//           seen. Exponentials are base 2 with a relative error of 2^-22.
// Source    Dao et al., FlashAttention, 2022; Dao, FlashAttention-2, 2023.
// Measured  docs/kernels.md.
#include "kernels/cuda/attention_short.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_short;

/// Whether P waits in shared memory rather than in registers, of which more than three groups of keys would take too many.
template <class Of> constexpr bool kMarked = Of::kRows > 48;

/// What strips of queries hand to strips of keys, through shared memory: a weight in bf16 for each query (row) and each key.
template <int keys> struct WeightTile {
  static constexpr int kPitch = keys > 64 ? 128 : keys > 32 ? 64 : 32;
  RowTile<kPitch> tile;

  /// Where a lane has the i-th of the four pairs that pack_factor gives it of 16 queries by 16 keys.
  __device__ bf16* pair(int i, int query, int key) const {
    return tile.chunk(query + row_of(i % 2 * 2), key / 8 + i / 2) + column_of(0);
  }
  __device__ void put(const uint32_t (&word)[4], int query, int key) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) store_4(pair(i, query, key), word[i]);
  }
  /// What this lane has put.
  __device__ void get(uint32_t (&word)[4], int query, int key) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) word[i] = load_4(pair(i, query, key));
  }
  /// Their transpose as the first factor of a product.
  __device__ void get_transposed(uint32_t (&a)[4], int query, int key) const {
    ptx::ldmatrix_x4_trans(a, tile.chunk(query + lane() / 16 * 8 + lane() % 8, key / 8 + lane() / 8 % 2));
  }
};

/// What a block has of a unit: rows, P after dropout, and dS, which takes the place of P where that is marked.
template <class Of, int D> struct UnitTiles {
  static constexpr int kWeights = Of::kRows * WeightTile<Of::kRows>::kPitch;
  static constexpr int kElements = Of::kRows * 4 * D + (kMarked<Of> ? 1 : 2) * kWeights;

  OperandTiles<D> rows;
  WeightTile<Of::kRows> p, ds;

  __device__ explicit UnitTiles(bf16* first)
      : rows{{first}, {first + Of::kRows * D}, {first + 2 * Of::kRows * D}, {first + 3 * Of::kRows * D}},
        p{{first + 4 * Of::kRows * D}},
        ds{{kMarked<Of> ? p.tile.data : p.tile.data + kWeights}} {}
};

/// A strip of queries. Factors that all terms share (the scale, 1 / (1 - p) of dropout) are left to the end.
template <class Of, int D> struct QueryWork {
  const ScoreRules& rules;
  const UnitTiles<Of, D>& tiles;
  int first;
  int groups;       // of 16 keys, that it sees
  float lse[2];     // of each row, times log2(e); infinite for rows that do not exist, so that their P is 0
  float d[2] = {};  // the sums D; before sum_up() a lane's share

  /// Scores with 16 keys → P.
  __device__ void weigh(Fragment<kStrip>& p, int key) const {
    hide_keys(p, rules.mask, first, key);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float& x = p[e / 4][e % 4];
      x = ptx::exp2_approx(x * rules.factor - lse[e % 4 / 2]);
    }
  }
  __device__ void sum_up() {
#pragma unroll
    for (int half = 0; half < 2; ++half) d[half] = row_sum(d[half]);
  }
  /// dQ += dS K, and dS goes to its tile.
  __device__ void add_to(Fragment<D>& dq, const Fragment<kStrip>& ds, int key) const {
    uint32_t factor[4];
    pack_factor(factor, ds, 0);
    tiles.ds.put(factor, first, key);
    add_rows(dq, factor, tiles.rows.k, key);
  }

  /// All in one go: registers hold what waits for the sums D.
  __device__ void run(Fragment<D>& dq) {
    constexpr int kKeys = Of::kRows;
    Fragment<kStrip> p[kKeys / kStrip], p_dp[kKeys / kStrip];
#pragma unroll
    for (int n = 0; n < kKeys / kStrip; ++n) {
      if (n >= groups) break;
      multiply_rows(p[n], tiles.rows.q, first, tiles.rows.k, n * kStrip, 1);
      multiply_rows(p_dp[n], tiles.rows.dout, first, tiles.rows.v, n * kStrip, 1);
      weigh(p[n], n * kStrip);
      Fragment<kStrip> kept = p[n];
      drop_keys(kept, rules.dropout, first, n * kStrip, 1);
#pragma unroll
      for (int e = 0; e < 8; ++e) p_dp[n][e / 4][e % 4] *= kept[e / 4][e % 4];
      uint32_t factor[4];
      pack_factor(factor, kept, 0);
      tiles.p.put(factor, first, n * kStrip);
#pragma unroll
      for (int e = 0; e < 8; ++e) d[e % 4 / 2] += p_dp[n][e / 4][e % 4];
    }
    sum_up();
#pragma unroll
    for (int n = 0; n < kKeys / kStrip; ++n) {
      if (n >= groups) break;
#pragma unroll
      for (int e = 0; e < 8; ++e) p_dp[n][e / 4][e % 4] -= p[n][e / 4][e % 4] * d[e % 4 / 2];
      add_to(dq, p_dp[n], n * kStrip);
    }
  }

  /// The first half of run(): P goes to its tile, -P where dropout leaves it out.
  __device__ void mark() {
    const StripFactor<D> q(tiles.rows.q, first), dout(tiles.rows.dout, first);
#pragma unroll 1
    for (int n = 0; n < groups; ++n) {
      Fragment<kStrip> p, dp;
      multiply_rows(p, q, tiles.rows.k, n * kStrip);
      multiply_rows(dp, dout, tiles.rows.v, n * kStrip);
      weigh(p, n * kStrip);
      Fragment<kStrip> marked = p;
      for_coins(rules.dropout, first, n * kStrip, [&](int e, bool keeps) {
        marked[e / 4][e % 4] = keeps ? p[e / 4][e % 4] : -p[e / 4][e % 4];
        dp[e / 4][e % 4] = keeps ? dp[e / 4][e % 4] : 0;
      });
      uint32_t factor[4];
      pack_factor(factor, marked, 0);
      tiles.p.put(factor, first, n * kStrip);
#pragma unroll
      for (int e = 0; e < 8; ++e) d[e % 4 / 2] += p[e / 4][e % 4] * dp[e / 4][e % 4];
    }
    sum_up();
  }
  /// The second half.
  __device__ void differentiate_marked(Fragment<D>& dq) const {
    const StripFactor<D> dout(tiles.rows.dout, first);
#pragma unroll 1
    for (int n = 0; n < groups; ++n) {
      Fragment<kStrip> dp, ds;
      multiply_rows(dp, dout, tiles.rows.v, n * kStrip);
      uint32_t marked[4];
      tiles.p.get(marked, first, n * kStrip);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float p = e % 2 ? detail::high_half(marked[e / 2]) : detail::low_half(marked[e / 2]);
        ds[e / 4][e % 4] = fmaxf(p, 0.0f) * dp[e / 4][e % 4] - fabsf(p) * d[e % 4 / 2];
      }
      add_to(dq, ds, n * kStrip);
    }
  }
};

/// What dK and dV, sums over queries of transposed weights times rows, have apart.
template <int D, int keys> struct KeySum {
  HeadRows<bf16> to;
  bool accumulate;
  WeightTile<keys> weights;
  RowTile<D> rows;
  float factor;
};

/// One of them, of the strip of keys `key` …. Weights that are marked count as zero where they are negative.
template <bool marked, int D, int keys>
__device__ inline void gradient_of_keys(const KeySum<D, keys>& of, const AttentionUnit& u, int first_query, int key) {
  Fragment<D> sum = {};
#pragma unroll 1
  for (int query = first_query; query < u.queries; query += kStrip) {
    uint32_t transposed[4];
    of.weights.get_transposed(transposed, query, key);
    if constexpr (marked)
#pragma unroll
      for (uint32_t& pair : transposed) pair = ptx::relu_bf16(pair);
    add_rows(sum, transposed, of.rows, query);
  }
  const float factors[2] = {of.factor, of.factor};
  store_strip<D>(of.to, key, sum, factors, of.accumulate);
}

/// What of the strips of keys.
enum class Gradients { kBoth, kValues, kKeys };

/// dV, or dK, or of each strip first dV and then dK, are dealt out to the unit's warps.
template <Gradients what, class Of, int D>
__device__ inline void gradients_of_keys(const Attention<bf16>& a, const AttentionUnit& u,
                                         const AttentionGradients<bf16>& g, const ScoreRules& rules,
                                         const UnitTiles<Of, D>& tiles, const Place& place) {
  constexpr int kWorks = what == Gradients::kBoth ? 2 * Of::kStrips : Of::kStrips;
  const float kept = rules.dropout.kept;
#pragma unroll 1
  for (int work = place.thread / kWarp; work < kWorks; work += Of::kStrips) {
    const bool values = what == Gradients::kBoth ? work < Of::kStrips : what == Gradients::kValues;
    const int key = work % Of::kStrips * kStrip;
    bf16* const sink = values ? g.dv.data : g.dk.data;  // single members: a choice between structures becomes memory
    if (key >= u.keys || !sink) continue;
    const int64_t stride = values ? a.v.stride : a.k.stride;
    const KeySum<D, Of::kRows> of{keys_of<D>(PackedRows<bf16>{sink, stride}, u),
                                  values ? g.dv.accumulate : g.dk.accumulate,
                                  {{values ? tiles.p.tile.data : tiles.ds.tile.data}},
                                  {values ? tiles.rows.dout.data : tiles.rows.q.data},
                                  values ? kept : kept * rules.scale};
    gradient_of_keys<what == Gradients::kValues && kMarked<Of>>(of, u, a.causal ? key : 0, key);
  }
}

/// Blocks that a multiprocessor shall have registers for.
template <int D, int strips> constexpr int kBlocks = D > 64 ? 1 : strips == 8 ? 2 : strips == 3 ? 5 : 4;

/// dQ, dK and dV of whole sequences.
template <int D, int strips>
__global__ void __launch_bounds__(Shape<strips>::kUnits* Shape<strips>::kThreads, kBlocks<D, strips>)
    short_backward_kernel(Attention<bf16> a, PackedRows<const bf16> dout, AttentionGradients<bf16> g, unsigned units) {
  using Of = Shape<strips>;
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
  const auto store_dq = [&] { store_gradient(a, u, g.dq, dq, rules.scale * rules.dropout.kept, first); };
  if constexpr (kMarked<Of>) {
    work.mark();
    __syncthreads();  // P is there
    gradients_of_keys<Gradients::kValues>(a, u, g, rules, tiles, place);
    __syncthreads();  // P has been read
    work.differentiate_marked(dq);
    store_dq();
    __syncthreads();  // dS is there
    gradients_of_keys<Gradients::kKeys>(a, u, g, rules, tiles, place);
  } else {
    work.run(dq);
    store_dq();
    __syncthreads();  // P and dS are there
    gradients_of_keys<Gradients::kBoth>(a, u, g, rules, tiles, place);
  }
}

}  // namespace

void attention_backward_short(Cuda where, const Attention<bf16>& a, View<const bf16> dout,
                              const AttentionGradients<bf16>& g) {
  const int64_t units = attention_units(a);
  for_head_size(a.head_dim, [&]<int D> {
    for_strips<D>(a, [&]<int strips>() {
      using Of = Shape<strips>;
      launch(where, "attention_short_backward", shape_for<Of>(units, UnitTiles<Of, D>::kElements),
             short_backward_kernel<D, strips>, a, PackedRows<const bf16>{dout.data, a.heads * D}, g, unsigned(units));
    });
  });
}

}  // namespace libtrain::kernels
