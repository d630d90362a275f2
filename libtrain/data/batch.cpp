#include "libtrain/data/batch.h"

#include <algorithm>
#include <limits>

namespace libtrain {
namespace {

using Ids = std::vector<int32_t>;
constexpr int64_t kMostRows = std::numeric_limits<int32_t>::max();  // packed rows are counted in 32 bits
constexpr const char* kEncodeRemedy = "encode the text with the model's own vocabulary";

/// One side of a batch while it is put together.
struct Side {
  const char* name;
  int64_t vocab;
  std::vector<int64_t> lengths;
  Ids ids;

  /// What is wrong with a token id of a text and what to do about it, or "".
  std::string complaint(int32_t id) const {
    if (id == kEos) return "is the end of a sequence; leave it out, it is added";
    if (id == kPad || id == kBos)
      return format_message("is reserved: it stands for padding or a beginning, which no text has; {}", kEncodeRemedy);
    if (vocab != 0 && (id < 0 || id >= vocab))
      return format_message("is outside the vocabulary of {}; {}", vocab, kEncodeRemedy);
    return id < 0 ? format_message("is negative; {}", kEncodeRemedy) : "";
  }

  void append(const Ids& sequence, size_t row) {
    for (size_t i = 0; i < sequence.size(); ++i)
      if (const std::string wrong = complaint(sequence[i]); !wrong.empty()) [[unlikely]]
        throw InvalidArgument(
            format_message("[batch] {} token id {} at row {}, position {} {}", name, sequence[i], row, i, wrong));
    ids.insert(ids.end(), sequence.begin(), sequence.end());
    ids.push_back(kEos);
    lengths.push_back(int64_t(sequence.size()) + 1);
  }
};

/// Tokens with tail.
int64_t capacity_of(const Side& side, int64_t multiple) {
  const int64_t blocks = (int64_t(side.ids.size()) - 1) / multiple + 1;
  LIBTRAIN_CHECK(blocks <= kMostRows / multiple,
                 "[batch] {} {} tokens, rounded up to a multiple of {}, are more than {}; use smaller batches",
                 side.ids.size(), side.name, multiple, kMostRows);
  return side.ids.empty() ? 0 : blocks * multiple;
}

Tensor to_tensor(Ids ids, int64_t capacity, Device device) {
  ids.resize(size_t(capacity), kPad);
  return Tensor::from(std::span<const int32_t>(ids), {capacity}, device);
}

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/// Where the sequences of a side lie, with the room that the options ask for.
Packing pack(const Side& side, int64_t capacity, const BatchOptions& options) {
  std::vector<int64_t> lengths = side.lengths;
  lengths.resize(size_t(round_up(int64_t(lengths.size()), options.pairs_multiple)), 0);
  Packing packing = make_packing(lengths, options.device, capacity);
  packing.max_length = round_up(packing.max_length, options.length_multiple);
  return packing;
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
  batch.source = pack(source, source_capacity, options);
  batch.target = pack(target, target_capacity, options);
  batch.source_ids = to_tensor(source.ids, source_capacity, options.device);
  batch.target_in = to_tensor(shift_right(target.ids, target.lengths), target_capacity, options.device);
  batch.target_out = to_tensor(target.ids, target_capacity, options.device);
  return batch;
}

/// cu_seqlens of a packing in which every number is what it must be: what indexes with them stays within rows.
Ids checked_ends(const char* name, const Packing& packing) {
  const auto check_rank = [&](const char* part, const Tensor& tensor) {
    LIBTRAIN_CHECK(tensor.defined() && tensor.dtype() == DType::i32 && tensor.rank() == 1 && tensor.dim(0) >= 0,
                   "[batch] {}.{} must be a vector in i32, got {}; make_packing() makes it", name, part, tensor.spec());
  };
  check_rank("cu_seqlens", packing.cu_seqlens);
  check_rank("positions", packing.positions);
  check_is("batch", "packing.sequences", packing.sequences, DType::i32, packing.positions.device(),
           packing.positions.shape());
  const Ids ends = packing.cu_seqlens.to_vector<int32_t>();
  LIBTRAIN_CHECK(!ends.empty() && ends[0] == 0,
                 "[batch] {}.cu_seqlens must begin with 0, got {}; make_packing() makes them from lengths", name,
                 ends.empty() ? "none" : std::to_string(ends[0]));
  for (size_t s = 0; s + 1 < ends.size(); ++s)
    LIBTRAIN_CHECK(ends[s + 1] >= ends[s] && ends[s + 1] <= packing.tokens() &&
                       int64_t(ends[s + 1]) - ends[s] <= packing.max_length,
                   "[batch] {}.cu_seqlens at position {} is {}, expected {} to {}; make_packing() makes them from "
                   "lengths",
                   name, s + 1, ends[s + 1], ends[s], std::min(packing.tokens(), ends[s] + packing.max_length));
  return ends;
}

/// Rows of a packing while they are checked: where sequences lie, and what they are to hold.
struct CheckedSide {
  const char* name;
  const Packing& packing;
  Ids ends = checked_ends(name, packing);

  /// Calls use(packed row, sequence, position) for every row that belongs to a sequence.
  template <class Use> void for_rows(const Use& use) const {
    for (size_t s = 0; s + 1 < ends.size(); ++s)
      for (int32_t r = ends[s]; r < ends[s + 1]; ++r) use(r, s, r - ends[s]);
  }

  void check_positions() const {
    const int32_t *positions = packing.positions.view<const int32_t>().data,
                  *sequences = packing.sequences.view<const int32_t>().data;
    for_rows([&](int32_t r, size_t s, int32_t position) {
      LIBTRAIN_CHECK(positions[r] == position,
                     "[batch] {}.positions at row {}, position {} is {}; make_packing() makes them from lengths", name,
                     s, position, positions[r]);
      LIBTRAIN_CHECK(sequences[r] >= 0 && sequences[r] == sequences[r - position],
                     "[batch] {}.sequences at row {}, position {} is {}, expected one number >= 0 for each row; "
                     "make_packing() makes them from lengths",
                     name, s, position, sequences[r]);
    });
  }

  void check_ids(const char* field, const Tensor& ids, int64_t vocab) const {
    const int32_t* values = ids.view<const int32_t>().data;
    for_rows([&](int32_t r, size_t s, int32_t position) {
      LIBTRAIN_CHECK(values[r] >= 0 && values[r] < vocab,
                     "[batch] {}: id {} at row {}, position {} is outside the vocabulary of {}; {}", field, values[r],
                     s, position, vocab, kEncodeRemedy);
    });
    for (int64_t r = ends.back(); r < packing.tokens(); ++r)
      LIBTRAIN_CHECK(values[r] == kPad,
                     "[batch] {}: id {} at position {} of the tail, behind the last sequence, must be {} (kPad); "
                     "make_batch() fills it up",
                     field, values[r], r - ends.back(), kPad);
  }
};

Tensor padded(const char* name, const Tensor& ids, const Packing& packing, int64_t pairs) {
  const Ids ends = checked_ends(name, packing);
  check_is("batch", name, ids, DType::i32, packing.positions.device(), packing.positions.shape());
  LIBTRAIN_CHECK(pairs >= 0 && pairs < int64_t(ends.size()),
                 "[batch] {} pairs, but cu_seqlens for {} sequences; make_batch() makes a whole batch", pairs,
                 ends.size() - 1);
  const auto packed = ids.to_vector<int32_t>();
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < ends.size(); ++s) longest = std::max(longest, int64_t(ends[s + 1] - ends[s]));
  Ids values(size_t(pairs * longest), kPad);
  for (size_t s = 0; s < size_t(pairs); ++s)
    for (int32_t i = ends[s]; i < ends[s + 1]; ++i)
      values[s * size_t(longest) + size_t(i - ends[s])] = packed[size_t(i)];
  return Tensor::from(std::span<const int32_t>(values), {pairs, longest}, ids.device());
}

/// Throws for the first of a padded row's tokens that is `pad`, or where a model puts kBos before them, that is kBos.
void check_tokens(const char* argument, std::span<const int32_t> tokens, int64_t row, int32_t pad, bool behind_bos) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    LIBTRAIN_CHECK(tokens[i] != pad,
                   "[pack_padded] {}: id {} at row {}, position {} is padding before a token; begin rows with their "
                   "tokens and fill them up behind the last",
                   argument, pad, row, i);
    LIBTRAIN_CHECK(!behind_bos || tokens[i] != kBos,
                   "[pack_padded] {}: id {} at row {}, position {} is kBos; leave it out, it is put before the labels",
                   argument, kBos, row, i);
  }
}

/// The sequences of a padded matrix, each up to its last token that is not padding.
Side unpad(const char* argument, const char* name, const Tensor& ids, int32_t pad, bool behind_bos) {
  Side side{name, 0, {}, {}};
  const auto values = ids.to_vector<int32_t>();
  const int64_t width = ids.dim(1);
  for (int64_t row = 0; row < ids.dim(0); ++row) {
    const auto first = values.begin() + row * width;
    int64_t length = width;
    while (length > 0 && first[length - 1] == pad) --length;
    check_tokens(argument, {first, first + length}, row, pad, behind_bos);
    side.ids.insert(side.ids.end(), first, first + length);
    side.lengths.push_back(length);
  }
  return side;
}

}  // namespace

Tensor Batch::input_ids() const { return padded("source_ids", source_ids, source, pairs); }
Tensor Batch::target_ids() const { return padded("target_out", target_out, target, pairs); }

Batch Batch::to(Device device) const {
  const MemoryUseScope memory(MemoryUse::kBatches);
  return {source.to(device),    target.to(device),     source_ids.to(device),
          target_in.to(device), target_out.to(device), pairs,
          source_tokens,        target_tokens};
}

std::vector<int64_t> Batch::layout() const {
  return {source.count(),  source.tokens(),   source.max_length,           target.count(),
          target.tokens(), target.max_length, int64_t(source_ids.device())};
}

void Batch::copy_from(const Batch& other) {
  LIBTRAIN_CHECK(layout() == other.layout(),
                 "[batch] cannot take over {} sources and targets in {} and {} rows, having room for {} in {} and {}; "
                 "BatchOptions' multiples make layouts equal",
                 other.source.count(), other.source.tokens(), other.target.tokens(), source.count(), source.tokens(),
                 target.tokens());
  for (const auto& [to, from] : {std::pair{&source, &other.source}, std::pair{&target, &other.target}}) {
    to->cu_seqlens.copy_from(from->cu_seqlens);
    to->positions.copy_from(from->positions);
    to->sequences.copy_from(from->sequences);
  }
  source_ids.copy_from(other.source_ids);
  target_in.copy_from(other.target_in);
  target_out.copy_from(other.target_out);
  pairs = other.pairs;
  source_tokens = other.source_tokens;
  target_tokens = other.target_tokens;
}

void check_options(const BatchOptions& options) {
  for (const auto& [name, multiple] :
       {std::pair{"capacity_multiple", options.capacity_multiple}, std::pair{"pairs_multiple", options.pairs_multiple},
        std::pair{"length_multiple", options.length_multiple}}) {
    LIBTRAIN_CHECK(multiple >= 1, "[batch] {} must be >= 1, got {}; 1 is exact", name, multiple);
    LIBTRAIN_CHECK(multiple <= kMostRows, "[batch] {} must be <= {}, got {}; packed rows are counted in 32 bits", name,
                   kMostRows, multiple);
  }
}

Batch make_batch(std::span<const Pair* const> pairs, const BatchOptions& options) {
  check_options(options);
  Side source{"source", options.source_vocab, {}, {}}, target{"target", options.target_vocab, {}, {}};
  for (size_t row = 0; row < pairs.size(); ++row) {
    LIBTRAIN_CHECK(pairs[row], "[batch] expected pairs, got a null pointer at row {}; leave it out", row);
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

void check_batch(const Batch& batch, int64_t source_vocab, int64_t target_vocab) {
  const Packing &source = batch.source, &target = batch.target;
  for (const Packing* side : {&source, &target})
    LIBTRAIN_CHECK(side->cu_seqlens.defined() && side->positions.defined() && side->positions.rank() == 1,
                   "[batch] the packing of {} is empty; make_batch() makes a whole batch",
                   side == &source ? "source" : "target");
  const Device device = source.positions.device();
  check_is("batch", "source_ids", batch.source_ids, DType::i32, device, source.positions.shape());
  check_is("batch", "target_in", batch.target_in, DType::i32, device, target.positions.shape());
  check_is("batch", "target_out", batch.target_out, DType::i32, device, target.positions.shape());
  LIBTRAIN_CHECK(source.cu_seqlens.numel() == target.cu_seqlens.numel() && batch.pairs >= 0 &&
                     batch.pairs < source.cu_seqlens.numel(),
                 "[batch] {} pairs, but cu_seqlens for {} sources and {} targets; make_batch() makes a whole batch",
                 batch.pairs, source.count(), target.count());
  if (device != Device::kCpu) return;
  const CheckedSide sources{"source", source}, targets{"target", target};
  LIBTRAIN_CHECK(batch.source_tokens == sources.ends.back() && batch.target_tokens == targets.ends.back(),
                 "[batch] source_tokens {} and target_tokens {}, but cu_seqlens end at {} and {}; make_batch() makes a "
                 "whole batch",
                 batch.source_tokens, batch.target_tokens, sources.ends.back(), targets.ends.back());
  sources.check_positions();
  targets.check_positions();
  sources.check_ids("source_ids", batch.source_ids, source_vocab);
  targets.check_ids("target_in", batch.target_in, target_vocab);
  targets.check_ids("target_out", batch.target_out, target_vocab);
}

Batch pack_padded(const Tensor& input_ids, const Tensor& target_ids, int32_t pad, Device device) {
  for (const auto& [name, ids] : {std::pair{"input_ids", &input_ids}, std::pair{"target_ids", &target_ids}})
    LIBTRAIN_CHECK(ids->defined() && ids->dtype() == DType::i32 && ids->rank() == 2,
                   "[pack_padded] {} must be i32[batch, length], got {}; cast() and reshape() convert", name,
                   ids->spec());
  LIBTRAIN_CHECK(input_ids.dim(0) == target_ids.dim(0),
                 "[pack_padded] {} sources but {} targets; give one row on either side for every pair",
                 input_ids.dim(0), target_ids.dim(0));
  return assemble(unpad("input_ids", "source", input_ids, pad, false),
                  unpad("target_ids", "target", target_ids, pad, true), {.device = device});
}

Tensor unpack_index(const Packing& packing, int64_t longest) {
  LIBTRAIN_CHECK(longest >= packing.max_length,
                 "[unpack_index] longest {} is below the {} of the longest sequence; pass packing.max_length or more",
                 longest, packing.max_length);
  const Ids ends = checked_ends("packing", packing);
  LIBTRAIN_CHECK(longest <= std::numeric_limits<int32_t>::max(),
                 "[unpack_index] longest {} is more than an index has; pass packing.max_length", longest);
  Ids index(size_t(packing.count() * longest), -1);
  for (size_t s = 0; s + 1 < ends.size(); ++s)
    for (int32_t i = ends[s]; i < ends[s + 1]; ++i) index[s * size_t(longest) + size_t(i - ends[s])] = i;
  return Tensor::from(std::span<const int32_t>(index), {packing.count(), longest}, packing.cu_seqlens.device());
}

}  // namespace libtrain
