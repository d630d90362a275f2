/// Rows of a table picked by token ids, plus rows of a constant table picked by positions.
///   y[r] = table[ids[r]] * scale + position_table[positions[r]], or zeros where ids[r] == pad_id
/// Backward: dtable[id] = scale * sum of dy[r] over the rows with that id, in order of r; rows of padding bring
/// nothing. Rows are first grouped by id (a counting sort), so there are no atomic additions and the result is always
/// the same bits.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct Embedding {
  View<const int32_t> ids;        // [tokens], each in [0, vocab) or equal to pad_id
  View<const T> table;            // [vocab, columns]
  View<const T> position_table;   // [max positions, columns] or not given
  View<const int32_t> positions;  // [tokens], given with position_table
  View<T> y;                      // [tokens, columns]
  double scale;
  int32_t pad_id;  // negative: none
};

/// Elements of the workspace of backward: where each id's group ends, and the rows in groups.
constexpr int64_t embedding_workspace(int64_t tokens, int64_t vocab) { return vocab + 1 + tokens; }

template <class T> struct EmbeddingGradient {
  Sink<accum_t<T>> dtable;  // [vocab, columns]
  View<int32_t> workspace;  // [embedding_workspace(tokens, vocab)]
};

template <Isa isa, class T> void embedding_forward(Cpu<isa>, const Embedding<T>&);
template <class T> void embedding_forward(Cuda, const Embedding<T>&);

template <Isa isa, class T>
void embedding_backward(Cpu<isa>, const Embedding<T>&, View<const T> dy, const EmbeddingGradient<T>&);
template <class T> void embedding_backward(Cuda, const Embedding<T>&, View<const T> dy, const EmbeddingGradient<T>&);

}  // namespace libtrain::kernels
