/// One mini-batch of source and target sequences: packed for the model, padded for those who want the textbook form.
#pragma once
#include <span>

#include "libtrain/data/pairs.h"
#include "libtrain/data/vocabulary.h"
#include "libtrain/packing.h"

namespace libtrain {

/// Pairs as a model trains on them. Sources and targets end with kEos; the decoder reads the target shifted by one, from kBos on.
struct Batch {
  Packing source, target;  // where the sequences lie in the ids below
  Tensor source_ids;       // i32[source tokens]  sequences end to end, each ending with kEos; tail: kPad
  Tensor target_in;        // i32[target tokens]  kBos, y1 … yn
  Tensor target_out;  // i32[target tokens]  y1 … yn, kEos: what is to be predicted; tail: kPad, ignored by the loss
  int64_t pairs = 0;  // sequences on either side, without the empty ones that pairs_multiple adds
  int64_t source_tokens = 0;  // without tail
  int64_t target_tokens = 0;  // likewise: targets that the loss counts

  /// The sources as i32[pairs, longest], filled with kPad: with target_ids(), the arguments of a model in textbook form.
  Tensor input_ids() const;
  /// Likewise target_out, the labels.
  Tensor target_ids() const;
  /// A copy on `device`.
  Batch to(Device device) const;

  /// All that the host knows of a batch and steers by. Of two batches with the same, everything is launched alike.
  std::vector<int64_t> layout() const;
  /// Takes over the contents of a batch of the same layout, in the memory that this one has. Throws InvalidArgument when it has another.
  void copy_from(const Batch& other);
};

/// How make_batch checks and stores what it packs.
struct BatchOptions {
  int64_t source_vocab = 0;  // ids must be below; 0: not checked
  int64_t target_vocab = 0;  // likewise
  /// Token capacities are rounded up to a multiple of this, so that steps of similar size have equal shapes. Default 1: exact.
  int64_t capacity_multiple = 1;
  /// Likewise the number of sequences on either side, by empty ones at the end, which cost nothing.
  int64_t pairs_multiple = 1;
  /// Likewise the length that no sequence exceeds, by which attention is laid out.
  int64_t length_multiple = 1;
  Device device = Device::kCpu;  // where the tensors of the batch go
};

/// Throws InvalidArgument for a multiple below 1.
void check_options(const BatchOptions& options);

/// Packs `pairs` in this order. Throws InvalidArgument naming side, id, row, position and vocabulary size for an id outside [0, vocab) and
/// for one that is kPad, kBos or kEos (which no text contains), and for a batch of 2^31 tokens or more.
Batch make_batch(std::span<const Pair* const> pairs, const BatchOptions& options = {});
Batch make_batch(std::span<const Pair> pairs, const BatchOptions& options = {});

/// Throws InvalidArgument, naming what and where (row and position where there are such), for the first thing that is not as Batch says or
/// that a model with these vocabularies cannot take: tensors of other shapes and dtypes, cu_seqlens and positions that do not agree, ids outside
/// [0, vocab), tails that are not kPad. Of a batch on a device, of which the host sees nothing, shapes and dtypes alone.
void check_batch(const Batch& batch, int64_t source_vocab, int64_t target_vocab);

/// The packed batch behind padded i32[B, S] and i32[B, T] on the CPU: sequences end at their last token that is not `pad`.
/// Sources and labels are taken as they are; target_in is the labels shifted by one behind kBos. A row of `pad` alone is an empty sequence.
/// Throws InvalidArgument when shapes or dtypes differ from this, and naming argument, id, row and position for `pad` before a token (rows are
/// filled up at their end, never before it) and for kBos among the labels.
Batch pack_padded(const Tensor& input_ids, const Tensor& target_ids, int32_t pad = kPad, Device device = Device::kCpu);

/// i32[sequences, longest] → for each of its elements the packed row, or -1 where it is padding: what unpack_rows() takes. Throws
/// InvalidArgument when `longest` is below packing.max_length, and for a packing that make_packing() would not make.
Tensor unpack_index(const Packing& packing, int64_t longest);

}  // namespace libtrain
