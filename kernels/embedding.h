/// Rows of a table picked by token ids, plus rows of a constant table picked by positions, and dropout of the sum.
///   y[r] = dropout(table[ids[r]] * scale + position_table[positions[r]]), or zeros where ids[r] == pad_id
/// Backward: dtable[id] = scale * sum of what dropout keeps of dy[r], scaled, over the rows with that id, in an order fixed by the ids; rows
/// of padding bring nothing. Dropout is that of kernels/dropout.h: each kept element is multiplied by its own scale, before any sum. Rows are first grouped by id (a stable sort), so there are no atomic additions and the result is always the same bits.
/// On a device, a row whose id or position is outside its table is zeros, and noted; no row of dtable is for such an id.
#pragma once
#include "kernels/dropout.h"

namespace libtrain::kernels {

template <class T> struct Embedding {
  View<const int32_t> ids;        // [tokens], each in [0, vocab) or equal to pad_id
  View<const T> table;            // [vocab, columns]
  View<const T> position_table;   // [max positions, columns] or not given
  View<const int32_t> positions;  // [tokens], given with position_table
  View<T> y;                      // [tokens, columns]
  double scale;
  int32_t pad_id;      // negative: none
  DropoutMask mask{};  // of y; without a state nothing is dropped
};

/// Instantiated for Out = accum_t<T>, the gradient of a parameter, and for (bf16, bf16), that of an activation.
template <class T, class Out = accum_t<T>> struct EmbeddingGradient {
  Sink<Out> dtable;           // [vocab, columns]; rows of ids that do not occur are zero
  View<int32_t> workspace;    // [embedding_workspace(device, tokens, vocab, columns)]
  View<accum_t<T>> partials;  // [embedding_partials(device, tokens, columns)], or none where that is 0
};

/// CUDA: rows are sorted nine bits of their ids at a time, in at most so many chunks side by side.
constexpr int kSortBits = 9;
constexpr int64_t kSortDigits = 1 << kSortBits, kSortChunks = 32;
/// CUDA: sorted rows that one warp sums.
constexpr int64_t kSumWindow = 32;

/// Elements of the workspace of backward. CPU: where each id's group ends, and the rows in groups.
template <Isa isa> constexpr int64_t embedding_workspace(Cpu<isa>, int64_t tokens, int64_t vocab, int64_t /*columns*/) {
  return vocab + 1 + tokens;
}
/// CUDA: slices of a row, of which a warp sums one with `width` columns a lane, and tickets, one for each slice of each window.
constexpr int64_t embedding_slices(int64_t columns, int width) { return (columns + 32 * width - 1) / (32 * width); }
constexpr int64_t embedding_tickets(int64_t tokens, int64_t columns, int width) {
  return (tokens + kSumWindow - 1) / kSumWindow * embedding_slices(columns, width);
}
/// CUDA: ids and rows before and after a pass, and the tickets.
constexpr int64_t embedding_workspace(Cuda, int64_t tokens, int64_t /*vocab*/, int64_t columns) {
  return 4 * tokens + embedding_tickets(tokens, columns, 1);
}

/// Elements of the sums of groups that reach over windows: CUDA, one at either end of each window.
template <Isa isa> constexpr int64_t embedding_partials(Cpu<isa>, int64_t, int64_t) { return 0; }
constexpr int64_t embedding_partials(Cuda, int64_t tokens, int64_t columns) {
  return (tokens + kSumWindow - 1) / kSumWindow * 2 * columns;
}

template <Isa isa, class T> void embedding_forward(Cpu<isa>, const Embedding<T>&);
template <class T> void embedding_forward(Cuda, const Embedding<T>&);

template <Isa isa, class T, class Out>
void embedding_backward(Cpu<isa>, const Embedding<T>&, View<const T> dy, const EmbeddingGradient<T, Out>&);
template <class T, class Out>
void embedding_backward(Cuda, const Embedding<T>&, View<const T> dy, const EmbeddingGradient<T, Out>&);

}  // namespace libtrain::kernels
