/// Multi-head scaled dot-product attention over packed sequences. For each sequence and head:
///   S = scale Q K^T,  P = softmax(S) over the keys that a query may see,  O = dropout(P) V
/// Backward, with P recomputed from the log-sum-exp of each row and the same random bits drawn again:
///   dV = dropout(P)^T dO,  dP = dropout'(dO V^T),  D = rowsum(P * dP) = rowsum(O * dO),
///   dS = P * (dP - D),  dQ = scale dS K,  dK = scale dS^T Q
/// Queries, keys and values are read, and their gradients written, where a projection left them: rows of q.stride
/// (k.stride, v.stride) elements, of which the first heads * head_dim count. A query without keys gives 0 and gets
/// gradient 0. Rows that belong to no sequence are zero in the output and in every gradient.
/// Sources: Vaswani et al., NeurIPS 2017, section 3.2; Dao et al., FlashAttention, NeurIPS 2022 (backward without P).
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
  View<const int32_t> key_ends;    // [sequences + 1]; both begin with 0
  int64_t query_rows, key_rows;    // of the tensors, rows of no sequence included
  int64_t heads, head_dim;
  int64_t max_queries, max_keys;  // no sequence has more
  double scale;
  bool causal;                 // query i sees keys 0 … i only
  View<T> out;                 // [query_rows, heads * head_dim]  out of forward; backward may read it
  View<accum_t<T>> lse;        // [heads, query_rows]  log of the row sum of exp(S), +inf without keys; likewise
  float dropout;               // share of P set to zero, in [0, 1); 0: no random bits are drawn
  uint32_t stream;             // of the bits: see attention_dropout_row
  const RandomState* state;    // on the device; read when dropout > 0
  View<accum_t<T>> workspace;  // [attention_workspace(device, *this)]
};

/// Laid out as q, k, v. Each may be empty, and on the CPU alias its matrix.
template <class T> struct AttentionGradients { Sink<T> dq, dk, dv; };

constexpr int64_t kAttentionHeads = 1024;  // the most that a layer may have
constexpr uint32_t kAttentionStreams = uint32_t(1) << 21;
/// Where the probabilities of one query draw their bits; the column is the key's position in its sequence. A layer's stream, below
/// kAttentionStreams, and the head share a word. Those from 2^31 on are attention's, the lower ones those of dropout of elements.
LIBTRAIN_HOST_DEVICE inline DropoutRow attention_dropout_row(uint32_t position, uint32_t sequence, uint32_t stream,
                                                             uint32_t head) {
  return {position, sequence, 0x80000000u | (stream * uint32_t(kAttentionHeads) + head)};
}

/// CPU: query rows whose scores exist at one time.
constexpr int64_t kAttentionBlock = 32;
/// CPU: rows and columns of scratch matrices are rounded up to this.
constexpr int64_t attention_padded(int64_t size) { return (size + 15) / 16 * 16; }

/// CPU: elements of scratch that one unit of work (a head of a sequence) needs, for forward and backward.
template <class T> constexpr int64_t attention_unit_elements(const Attention<T>& a) {
  const int64_t keys = attention_padded(a.max_keys), width = attention_padded(a.head_dim);
  return 4 * keys * width + kAttentionBlock * (2 * keys + 5 * width);
}
/// CPU: units that may be worked on at one time: up to 64, as long as their scratch stays within 2^24 elements.
template <class T> constexpr int64_t attention_slots(const Attention<T>& a) {
  const int64_t units = (a.query_ends.dims[0] - 1) * a.heads, fitting = (int64_t(1) << 24) / attention_unit_elements(a);
  const int64_t wanted = fitting > 64 ? 64 : fitting < 8 ? 8 : fitting;
  return units < wanted ? units : wanted;
}
/// Elements of workspace. On the CPU, the scratch of the units: where a unit's lies does not affect its result. On CUDA, the
/// sums D of backward, [heads, query_rows].
template <Isa isa, class T> constexpr int64_t attention_workspace(Cpu<isa>, const Attention<T>& a) {
  return attention_slots(a) * attention_unit_elements(a);
}
template <class T> constexpr int64_t attention_workspace(Cuda, const Attention<T>& a) { return a.heads * a.query_rows; }

template <Isa isa, class T> void attention_forward(Cpu<isa>, const Attention<T>&);
template <class T> void attention_forward(Cuda, const Attention<T>&);

template <Isa isa, class T>
void attention_backward(Cpu<isa>, const Attention<T>&, View<const T> dout, const AttentionGradients<T>&);
template <class T> void attention_backward(Cuda, const Attention<T>&, View<const T> dout, const AttentionGradients<T>&);

}  // namespace libtrain::kernels
