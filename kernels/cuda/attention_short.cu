// Shapes    q, out [query rows, heads * D]; k, v [key rows, heads * D], D in {32, 64, 96, 128}; no sequence is longer than 128, and 128 only
//           for D <= 64.
// Mapping   A unit (one head of one sequence) lies in shared memory whole. It has a warp for every 16 rows that the longest sequence may
//           have, 1, 2, 3, 4 or 8; a block has one unit, or as many as fit into 4 warps. A warp owns 16 queries. Warps without rows idle,
//           groups of 16 absent keys are left out. Blocks at the end zero the rows of no sequence.
// Traffic   Reads q, k, v and writes out, each once: 8 D bytes a token. Bound by memory and by instructions: 4 S^2 D FLOP, S^2 exponentials
//           and coins.
// Numerics  Products of bf16 summed in f32; scores and softmax in f32. P is rounded to bf16 for the second product, the sum of a row is
//           that of the unrounded P. Exponentials are base 2 with a relative error of 2^-22.
// Source    Dao et al., FlashAttention, 2022; Dao, FlashAttention-2, 2023.
// Measured  docs/kernels.md.
#include "kernels/cuda/attention_short.cuh"

namespace libtrain::kernels {
namespace {

using namespace attention_short;

/// Keys attended to at a time: with more, two blocks of eight strips would not have the registers.
template <class Of> constexpr int kKeys = Of::kStrips == 8 ? 32 : Of::kRows;

/// Blocks that a multiprocessor shall have registers for.
template <int D, int strips> constexpr int kBlocks = D > 96        ? 1
                                                     : strips == 8 ? 2
                                                     : D > 64      ? 4
                                                     : strips == 4 ? 5
                                                     : strips == 3 ? 8
                                                                   : 6;

/// Output and log-sum-exp of whole sequences.
template <int D, int strips>
__global__ void __launch_bounds__(Shape<strips>::kUnits* Shape<strips>::kThreads, kBlocks<D, strips>)
    short_forward_kernel(Attention<bf16> a, unsigned units) {
  using Of = Shape<strips>;
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
    attend<D, kKeys<Of>>(out, rules, q, place.first, k, v, first_key, place.first, first_key);
  };
  if constexpr (kKeys<Of> == Of::kRows) {
    if (keys > 0) attend_from(0);
  } else {
#pragma unroll 1
    for (int first_key = 0; first_key < keys; first_key += kKeys<Of>) attend_from(first_key);
  }
  finish(a, u, out, rules, place.first);
}

}  // namespace

void attention_forward_short(Cuda where, const Attention<bf16>& a) {
  const int64_t units = attention_units(a);
  for_head_size(a.head_dim, [&]<int D> {
    for_strips<D>(a, [&]<int strips>() {
      using Of = Shape<strips>;
      launch(where, "attention_short_forward", shape_for<Of>(units, 3 * Of::kRows * D), short_forward_kernel<D, strips>,
             a, unsigned(units));
    });
  });
}

}  // namespace libtrain::kernels
