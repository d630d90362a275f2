/// Multi-head scaled dot-product attention over packed sequences (Vaswani et al. 2017, section 3.2.1). For each sequence and head:
///   S = scale Q K^T,  P = softmax(S) over the keys that a query may see,  O = dropout(P) V
/// Backward, with D = rowsum(dO * O) and P recomputed from the log-sum-exp of each row (Dao et al., FlashAttention, NeurIPS 2022):
///   dV = dropout(P)^T dO,  dP = dropout'(dO V^T),  dS = P * (dP - D),  dQ = scale dS K,  dK = scale dS^T Q
/// Queries, keys and values are read, and their gradients written, where a projection left them: rows of q_stride (k_stride, v_stride)
/// elements, of which the first heads * head_dim count. A query without keys gives 0 and gradient 0. Rows that belong to no sequence are
/// zero in every output.
#pragma once
#include "kernels/dtype.h"
#include "kernels/philox.h"

namespace libtrain::kernels {

/// Rows of a packed matrix: heads * head_dim elements each, `stride` elements from one row to the next.
template <class T> struct PackedRows {
  T* data;
  int64_t stride;
};

template <class T> struct Attention {
  PackedRows<const T> q, k, v;
  View<const int32_t> query_ends;  // [sequences + 1]: queries of sequence s are rows [query_ends[s], query_ends[s + 1])
  View<const int32_t> key_ends;    // [sequences + 1]
  int64_t query_rows, key_rows;    // of the tensors, rows of no sequence included
  int64_t heads, head_dim;
  int64_t max_queries, max_keys;  // no sequence has more
  double scale;
  bool causal;              // query i sees keys 0 … i only
  View<T> out;              // [query_rows, heads * head_dim]
  View<accum_t<T>> lse;     // [heads, query_rows]: log of the row sum of exp(S), +inf for a query without keys
  float dropout;            // share of P set to zero, in [0, 1); 0: no random bits are drawn
  uint32_t stream;          // of the bits: row (query position, sequence, stream * 2^10 + head), column = key position
  const RandomState* state; // on the device
  View<accum_t<T>> workspace;  // [attention_workspace(*this)]
};

template <class T> struct AttentionGradients {
  Sink<T> dq, dk, dv;  // laid out as q, k, v; either all three are wanted or, when empty, not
};

/// Units of work (a head of a sequence) are dealt out to this many slots, each with scratch memory of its own.
constexpr int64_t kAttentionSlots = 32;
/// Query rows whose scores exist at one time.
constexpr int64_t kAttentionBlock = 32;
constexpr int64_t attention_padded(int64_t size) { return (size + 15) / 16 * 16; }
/// Elements of scratch that one slot needs, for forward and backward.
template <class T> constexpr int64_t attention_slot_elements(const Attention<T>& a) {
  const int64_t keys = attention_padded(a.max_keys), width = attention_padded(a.head_dim);
  return 5 * keys * width + 3 * kAttentionBlock * (keys + width);
}
template <class T> constexpr int64_t attention_workspace(const Attention<T>& a) {
  return kAttentionSlots * attention_slot_elements(a);
}

template <Isa isa, class T> void attention_forward(Cpu<isa>, const Attention<T>&);
template <class T> void attention_forward(Cuda, const Attention<T>&);

template <Isa isa, class T>
void attention_backward(Cpu<isa>, const Attention<T>&, View<const T> dout, const AttentionGradients<T>&);
template <class T> void attention_backward(Cuda, const Attention<T>&, View<const T> dout, const AttentionGradients<T>&);

}  // namespace libtrain::kernels
