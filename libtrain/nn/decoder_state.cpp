#include "libtrain/nn/decoder_state.h"

#include <algorithm>
#include <type_traits>

#include "libtrain/ops/attention.h"
#include "libtrain/ops/index_select.h"
#include "libtrain/ops/narrow.h"

namespace libtrain {
namespace {

constexpr int64_t kFirstRoom = 16;  // positions

/// Copies `columns` elements from the beginning of every row of x [rows, ...] to those of y [rows, ...], at `offset` elements into each.
void copy_columns(const Tensor& x, int64_t x_offset, const Tensor& y, int64_t y_offset, int64_t columns) {
  visit_float("decoder_state", x.dtype(), [&]<class T> {
    const Sink<T> to{y.view<T>().data + y_offset};
    detail::run_copy_strided<T>(x.device(), x.view<const T>().data + x_offset, to,
                                std::vector<detail::StridedDim>{{x.dim(0), x.dim(1), y.dim(1)}, {columns, 1, 1}});
  });
}

Tensor index_of(std::span<const int32_t> rows, Device device) {
  return Tensor::from(rows, {int64_t(rows.size())}, device);
}

/// That all layers are alike, and `memory` describes their rows.
void check_memory(const std::vector<Tensor>& keys_values, const Packing& memory) {
  LIBTRAIN_CHECK(
      !keys_values.empty(),
      "[decoder_state] expected keys and values of at least one layer, got none; project the memory for each");
  const Tensor& first = keys_values[0];
  LIBTRAIN_CHECK(first.defined() && first.rank() == 2 && first.dim(1) > 0 && first.dim(1) % 2 == 0,
                 "[decoder_state] keys and values must be [memory rows, 2 size], got {}; they stand side by side",
                 first.spec());
  visit_float("decoder_state", first.dtype(), []<class T> {});
  detail::check_packing("decoder_state", "memory", memory, first);
  for (size_t i = 1; i < keys_values.size(); ++i)
    check_like("decoder_state", format_message("layer {}", i).c_str(), keys_values[i], first, first.shape());
}

}  // namespace

DecoderState::DecoderState(const std::vector<Tensor>& memory_keys_values, const Packing& memory) : memory_(memory) {
  check_memory(memory_keys_values, memory);
  for (const Tensor& keys_values : memory_keys_values) layers_.push_back({keys_values, {}});
  const auto ends = memory.cu_seqlens.to_vector<int32_t>();
  for (int32_t s = 0; s < int32_t(memory.count()); ++s) {
    memory_lengths_.push_back(ends[size_t(s) + 1] - ends[size_t(s)]);
    source_of_row_.push_back(s);
  }
}

/// What all layers are like.
const Tensor& DecoderState::alike() const {
  LIBTRAIN_CHECK(!layers_.empty(), "[decoder_state] expected a state, got one that was moved from; assign one to it");
  return layers_[0].memory;
}

void DecoderState::select(std::span<const int32_t> rows) {
  const Device device = this->device();
  std::vector<int32_t> sources;
  for (size_t r = 0; r < rows.size(); ++r) {
    LIBTRAIN_CHECK(rows[r] >= 0 && rows[r] < this->rows(),
                   "[decoder_state] row {} at position {} is outside [0, {}); they count from 0", rows[r], r,
                   this->rows());
    sources.push_back(source_of_row_[size_t(rows[r])]);
  }
  LIBTRAIN_CHECK(std::ranges::is_sorted(sources),
                 "[decoder_state] rows of one source must be neighbours and sources in order; sort them by source");
  const NoTape nothing_recorded;
  DecoderState selected(*this);
  const Tensor index = index_of(rows, device);
  for (Layer& layer : selected.layers_)
    if (layer.keys_values.defined()) layer.keys_values = index_select(layer.keys_values, index);
  selected.source_of_row_ = std::move(sources);
  selected.drop_memory_without_rows();
  selected.open_ = false;
  static_assert(std::is_nothrow_move_assignable_v<DecoderState>);
  *this = std::move(selected);
}

void DecoderState::drop_memory_without_rows() {
  std::vector<int32_t> kept_rows;
  std::vector<int64_t> lengths;
  int32_t first = 0, sources = 0;
  size_t r = 0;
  for (int32_t s = 0; s < int32_t(memory_lengths_.size()); ++s) {
    const int32_t end = first + int32_t(memory_lengths_[size_t(s)]);
    const bool kept = r < source_of_row_.size() && source_of_row_[r] == s;
    for (; r < source_of_row_.size() && source_of_row_[r] == s; ++r) source_of_row_[r] = sources;
    if (kept) {
      for (int32_t row = first; row < end; ++row) kept_rows.push_back(row);
      lengths.push_back(end - first);
      ++sources;
    }
    first = end;
  }
  if (lengths.size() == memory_lengths_.size()) return;
  const Tensor index = index_of(kept_rows, device());
  for (Layer& layer : layers_) layer.memory = index_select(layer.memory, index);
  memory_ = make_packing(lengths, device());
  memory_lengths_ = std::move(lengths);
}

void DecoderState::make_room(int64_t positions) {
  if (positions <= capacity_) return;
  const int64_t capacity = std::max({kFirstRoom, positions, 2 * capacity_});
  for (Layer& layer : layers_) {
    const int64_t columns = layer.memory.dim(1);
    const Tensor roomy = Tensor::zeros({rows(), capacity * columns}, layer.memory.dtype(), layer.memory.device());
    if (length_ > 0) copy_columns(layer.keys_values, 0, roomy, 0, length_ * columns);
    layer.keys_values = roomy;
  }
  capacity_ = capacity;
}

void DecoderState::open_position() {
  const Device device = this->device();
  open_ = false;
  make_room(length_ + 1);
  const std::vector<int64_t> alone(size_t(rows()), 1);
  std::vector<int64_t> keys, queries, of_source(memory_lengths_.size());
  for (const int32_t source : source_of_row_) {
    keys.insert(keys.end(), {length_ + 1, capacity_ - length_ - 1});
    queries.insert(queries.end(), {1, 0});
    ++of_source[size_t(source)];
  }
  keys_ = make_packing(keys, device);
  queries_ = make_packing(queries, device);
  memory_queries_ = make_packing(of_source, device);
  position_ = make_packing(alone, device);
  const auto at = std::vector<int32_t>(alone.size(), int32_t(length_));
  position_.positions = index_of(at, device);
  open_ = true;
}

void DecoderState::close_position() {
  check_open();
  open_ = false;
  ++length_;
}

void DecoderState::check_open() const {
  LIBTRAIN_CHECK(open_ && !layers_.empty(),
                 "[decoder_state] expected an open position, got none; call open_position() first");
}

/// The layer of this number, which is to be given x [rows, parts * size] at the open position.
const DecoderState::Layer& DecoderState::open_layer(size_t layer, const char* argument, const Tensor& x,
                                                    int64_t parts) const {
  const Shape shape{rows(), parts * size()};
  LIBTRAIN_CHECK(layer < layers_.size(), "[decoder_state] layer {} is outside [0, {}); they count from 0", layer,
                 layers_.size());
  check_open();
  check_like("decoder_state", argument, x, alike(), shape);
  return layers_[layer];
}

Tensor DecoderState::self_attention(size_t layer, const Tensor& qkv, int64_t heads) {
  const Tensor& keys_values = open_layer(layer, "qkv", qkv, 3).keys_values;
  const int64_t size = this->size(), columns = 2 * size;
  copy_columns(qkv, size, keys_values, length_ * columns, columns);
  return cross_attention(narrow(qkv, 1, 0, size), keys_values.reshape({-1, columns}), queries_, keys_, {heads});
}

Tensor DecoderState::memory_attention(size_t layer, const Tensor& q, int64_t heads) const {
  return cross_attention(q, open_layer(layer, "q", q, 1).memory, memory_queries_, memory_, {heads});
}

}  // namespace libtrain
