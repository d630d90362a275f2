/// What a decoder knows of the positions before, so that the next one costs one row a sequence.
#pragma once
#include <span>
#include <vector>

#include "libtrain/packing.h"

namespace libtrain {

/// Keys and values of every decoder layer: those of the memory, worked out once, and those of each position so far. Each row is one sequence in
/// the making, and all are equally long. A source may have several rows (beam search), which are neighbours; sources keep their order.
/// Made by Transformer::begin_decoding() and taken further by Transformer::decode_next(). Nothing of it is differentiable.
///
/// A decoder of a program's own is written as Transformer::decode_next() is: open_position(), the layers with self_attention() and
/// memory_attention() in place of the operations, close_position(). position().positions has the numbers of the open position, which is what
/// embeddings of positions need. One without a memory, such as a language model, begins with a tensor [0, 2 size] for each layer, and a memory
/// packing that has length 0 for each row.
class DecoderState {
 public:
  /// memory_keys_values: [memory rows, 2 size] of each layer, f32, bf16 or f64; memory: where each source's rows lie. Begins with one row a
  /// source, at length 0. Throws InvalidArgument for no layer, layers that are not alike, and a packing that is not that of their rows.
  DecoderState(const std::vector<Tensor>& memory_keys_values, const Packing& memory);
  DecoderState(DecoderState&&) = default;             ///< Copies would write to the same elements: there are none.
  DecoderState& operator=(DecoderState&&) = default;  ///< likewise

  /// Number of sequences in the making.
  int64_t rows() const { return int64_t(source_of_row_.size()); }
  /// Positions that each row has behind it.
  int64_t length() const { return length_; }
  /// Goes on with these rows alone: row r is then what row `rows[r]` was. A row may be given repeatedly or not at all, and sources without a row
  /// are dropped. A position that is open is no longer. Throws InvalidArgument for a number that is no row, for rows whose sources are not in
  /// order, and for a state that was moved from; whatever it throws, OutOfMemory too, the state is as before. Until it
  /// returns, the keys and values before and after lie in memory together.
  void select(std::span<const int32_t> rows);

  // -- for layers -----------------------------------------------------------------------------------------------------
  /// Number of layers; 0 for a state that was moved from. Such a state must be assigned to first: all below but position() throw InvalidArgument.
  int64_t layers() const { return int64_t(layers_.size()); }
  /// Columns of what goes from layer to layer.
  int64_t size() const { return alike().dim(1) / 2; }
  /// Of keys and values.
  DType dtype() const { return alike().dtype(); }
  /// Where keys and values lie.
  Device device() const { return alike().device(); }
  /// Makes room for the next position, in all layers. If that position was open already, it begins anew.
  void open_position();
  /// The open position has gone through all layers. Throws InvalidArgument where none is open.
  void close_position();
  /// The open position of every row: sequences of one token each.
  const Packing& position() const { return position_; }
  /// Attention of the open position to itself and those before it. Its keys and values are kept. qkv [rows, 3 size] → [rows, size]
  /// Throws InvalidArgument where no position is open, for a layer outside [0, layers()), and for other shapes, dtypes, devices and heads.
  Tensor self_attention(size_t layer, const Tensor& qkv, int64_t heads);
  /// Attention of the open position to the memory. q [rows, size] → [rows, size]. Throws likewise.
  Tensor memory_attention(size_t layer, const Tensor& q, int64_t heads) const;

 private:
  struct Layer {
    Tensor memory;       // [memory rows, 2 size]
    Tensor keys_values;  // [rows, capacity_ * 2 size]: those of a row's positions, and room
  };

  DecoderState(const DecoderState&) = default;  // for select(), which replaces in the copy what it changes
  const Tensor& alike() const;
  const Layer& open_layer(size_t layer, const char* argument, const Tensor& x, int64_t parts) const;
  void check_open() const;
  void make_room(int64_t positions);
  void drop_memory_without_rows();

  std::vector<Layer> layers_;
  std::vector<int64_t> memory_lengths_;  // of each source
  std::vector<int32_t> source_of_row_;   // rising
  int64_t length_ = 0, capacity_ = 0;
  bool open_ = false;                // whether a position is
  Packing memory_, memory_queries_;  // sequence s: the memory of source s, and the rows of source s
  Packing position_;
  // Sequence 2 r: the positions of row r, and the row, which asks for them. Sequence 2 r + 1: the room behind them, for which nobody asks.
  Packing keys_, queries_;
};

}  // namespace libtrain
