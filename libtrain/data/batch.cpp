#include "libtrain/data/batch.h"

#include <limits>

namespace libtrain {
namespace {

using Ids = std::vector<int32_t>;

/// One side of a batch while it is put together.
struct Side {
  const char* name;
  int64_t vocab;
  std::vector<int64_t> lengths;
  Ids ids;

  void append(const Ids& sequence, size_t row) {
    for (size_t i = 0; i < sequence.size(); ++i)
      LIBTRAIN_CHECK(
          sequence[i] >= 0 && sequence[i] != kPad && sequence[i] != kBos && (vocab == 0 || sequence[i] < vocab),
          "[batch] {} token id {} at row {}, position {} is not in the vocabulary of {} (ids {} and {} are reserved); "
          "encode the text with the model's own vocabulary",
          name, sequence[i], row, i, vocab, kPad, kBos);
    ids.insert(ids.end(), sequence.begin(), sequence.end());
    ids.push_back(kEos);
    lengths.push_back(int64_t(sequence.size()) + 1);
  }
};

/// Tokens with tail. Packed rows are counted in 32 bits.
int64_t capacity_of(const Side& side, int64_t multiple) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const int64_t blocks = (int64_t(side.ids.size()) - 1) / multiple + 1;
  LIBTRAIN_CHECK(blocks <= kMost / multiple,
                 "[batch] {} {} tokens, rounded up to a multiple of {}, are more than {}; use smaller batches",
                 side.ids.size(), side.name, multiple, kMost);
  return side.ids.empty() ? 0 : blocks * multiple;
}

Tensor to_tensor(Ids ids, int64_t capacity, Device device) {
  ids.resize(size_t(capacity), kPad);
  return Tensor::from(std::span<const int32_t>(ids), {capacity}, device);
}

/// The decoder's input: each sequence of labels moved right by one, behind kBos.
Ids shift_right(const Ids& labels, std::span<const int64_t> lengths) {
  Ids shifted(labels.size());
  size_t at = 0;
  for (const int64_t length : lengths)
    for (int64_t i = 0; i < length; ++i, ++at) shifted[at] = i == 0 ? kBos : labels[at - 1];
  return shifted;
}

Batch assemble(const Side& source, const Side& target, const BatchOptions& options) {
  const MemoryUseScope memory(MemoryUse::kBatches);
  Batch batch;
  batch.pairs = int64_t(source.lengths.size());
  batch.source_tokens = int64_t(source.ids.size());
  batch.target_tokens = int64_t(target.ids.size());
  const int64_t source_capacity = capacity_of(source, options.capacity_multiple);
  const int64_t target_capacity = capacity_of(target, options.capacity_multiple);
  batch.source = make_packing(source.lengths, options.device, source_capacity);
  batch.target = make_packing(target.lengths, options.device, target_capacity);
  batch.source_ids = to_tensor(source.ids, source_capacity, options.device);
  batch.target_in = to_tensor(shift_right(target.ids, target.lengths), target_capacity, options.device);
  batch.target_out = to_tensor(target.ids, target_capacity, options.device);
  return batch;
}

Tensor padded(const Tensor& ids, const Packing& packing) {
  const auto packed = ids.to_vector<int32_t>(), ends = packing.cu_seqlens.to_vector<int32_t>();
  Ids values(size_t(packing.count() * packing.max_length), kPad);
  for (size_t s = 0; s + 1 < ends.size(); ++s)
    for (int32_t i = ends[s]; i < ends[s + 1]; ++i)
      values[s * size_t(packing.max_length) + size_t(i - ends[s])] = packed[size_t(i)];
  return Tensor::from(std::span<const int32_t>(values), {packing.count(), packing.max_length}, ids.device());
}

/// The sequences of a padded matrix, each up to its last token that is not padding.
Side unpad(const char* name, const Tensor& ids, int32_t pad) {
  Side side{name, 0, {}, {}};
  const auto values = ids.to_vector<int32_t>();
  const int64_t width = ids.dim(1);
  for (int64_t row = 0; row < ids.dim(0); ++row) {
    const auto first = values.begin() + row * width;
    int64_t length = width;
    while (length > 0 && first[length - 1] == pad) --length;
    side.ids.insert(side.ids.end(), first, first + length);
    side.lengths.push_back(length);
  }
  return side;
}

}  // namespace

Tensor Batch::input_ids() const { return padded(source_ids, source); }
Tensor Batch::target_ids() const { return padded(target_out, target); }

Batch Batch::to(Device device) const {
  const MemoryUseScope memory(MemoryUse::kBatches);
  return {source.to(device),    target.to(device),     source_ids.to(device),
          target_in.to(device), target_out.to(device), pairs,
          source_tokens,        target_tokens};
}

Batch make_batch(std::span<const Pair* const> pairs, const BatchOptions& options) {
  LIBTRAIN_CHECK(options.capacity_multiple >= 1, "[batch] capacity_multiple must be >= 1, got {}",
                 options.capacity_multiple);
  Side source{"source", options.source_vocab, {}, {}}, target{"target", options.target_vocab, {}, {}};
  for (size_t row = 0; row < pairs.size(); ++row) {
    source.append(pairs[row]->source, row);
    target.append(pairs[row]->target, row);
  }
  return assemble(source, target, options);
}

Batch make_batch(std::span<const Pair> pairs, const BatchOptions& options) {
  std::vector<const Pair*> pointers;
  for (const Pair& pair : pairs) pointers.push_back(&pair);
  return make_batch(std::span<const Pair* const>(pointers), options);
}

Batch pack_padded(const Tensor& input_ids, const Tensor& target_ids, int32_t pad, Device device) {
  for (const auto& [name, ids] : {std::pair{"input_ids", &input_ids}, std::pair{"target_ids", &target_ids}})
    LIBTRAIN_CHECK(ids->defined() && ids->dtype() == DType::i32 && ids->rank() == 2,
                   "[pack_padded] {} must be i32[batch, length], got {}", name, ids->spec());
  LIBTRAIN_CHECK(input_ids.dim(0) == target_ids.dim(0), "[pack_padded] {} sources but {} targets", input_ids.dim(0),
                 target_ids.dim(0));
  return assemble(unpad("source", input_ids, pad), unpad("target", target_ids, pad), {.device = device});
}

Tensor unpack_index(const Packing& packing, int64_t longest) {
  LIBTRAIN_CHECK(longest >= packing.max_length, "[unpack_index] longest {} is below the {} of the longest sequence",
                 longest, packing.max_length);
  const auto ends = packing.cu_seqlens.to_vector<int32_t>();
  Ids index(size_t(packing.count() * longest), -1);
  for (size_t s = 0; s + 1 < ends.size(); ++s)
    for (int32_t i = ends[s]; i < ends[s + 1]; ++i) index[s * size_t(longest) + size_t(i - ends[s])] = i;
  return Tensor::from(std::span<const int32_t>(index), {packing.count(), longest}, packing.cu_seqlens.device());
}

}  // namespace libtrain
