#pragma once
#include <cmath>
#include <string>

#include "libtrain/data/vocabulary.h"
#include "libtrain/ops/embedding.h"
#include "libtrain/packing.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// Token embeddings times sqrt(size) plus sinusoidal positions (Vaswani et al. 2017, sections 3.4 and 3.5). Parameter as in
/// torch.nn.Embedding: "weight" [vocab, size], normal with standard deviation size^-0.5. For other positions, or ids of which 0 is none of padding,
/// call the operation embedding().
class Embedding {
 public:
  /// Registers "<name>.weight" [vocab, size]. Positions are computed once, for sequences of up to max_positions. Throws InvalidArgument unless
  /// vocab > 0 and size > 0.
  Embedding(Parameters& parameters, const std::string& name, int64_t vocab, int64_t size, int64_t max_positions)
      : Embedding(parameters.add(join_name(name, "weight"), checked(vocab, size),
                                 init::normal(0, 1 / std::sqrt(double(size)))),
                  max_positions) {}
  /// Shares a table that exists already (tied embeddings).
  Embedding(const Tensor& table, int64_t max_positions)
      : table_(table), positions_(sinusoidal_positions(max_positions, table.dim(1), table.dtype(), table.device())) {}

  /// ids i32[tokens], packed → [tokens, size]; kPad gives zeros. Throws InvalidArgument for an id outside the vocabulary or a sequence
  /// longer than max_positions.
  Tensor operator()(const Tensor& ids, const Packing& packing) const {
    return embedding(ids, table_, std::sqrt(double(table_.dim(1))), positions_, packing.positions, kPad);
  }

  /// dropout() of the same, in one pass.
  Tensor operator()(const Tensor& ids, const Packing& packing, const DropoutSpec& dropout) const {
    return embedding(ids, table_, std::sqrt(double(table_.dim(1))), positions_, packing, kPad, dropout);
  }

  /// [vocab, size], for those who tie another layer to it.
  const Tensor& table() const { return table_; }

 private:
  static Shape checked(int64_t vocab, int64_t size) {
    LIBTRAIN_CHECK(vocab > 0 && size > 0,
                   "[embedding] expected vocab > 0 and size > 0, got {} and {}; Vocabulary::size() counts ids", vocab,
                   size);
    return {vocab, size};
  }

  Tensor table_, positions_;
};

}  // namespace libtrain
