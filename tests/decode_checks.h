/// Decoding position by position against decoding all positions at once: what the tests of the CPU and of a device share.
#pragma once
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "train/toy.h"

namespace libtrain::testing {

using Ids = std::vector<int32_t>;
using Rows = std::vector<double>;

/// A model with random weights, large enough for its predictions to differ, and sources of different lengths.
struct RandomModel {
  Parameters parameters;
  Transformer model;
  std::vector<Ids> sources{{4, 5, 6}, {}, {7, 8, 9, 10, 11, 12}, {13}};

  explicit RandomModel(const ParametersOptions& store = {.dtype = DType::f64, .seed = 3}, bool pre_norm = true,
                       int64_t vocab = kToyVocab)
      : parameters(store), model(parameters, options(pre_norm, vocab)) {
    const Tensor values = parameters.values();
    values.copy_from(scale(values, 2));
    if (store.mixed_precision) parameters.round_values();
  }
  static TransformerOptions options(bool pre_norm, int64_t vocab) {
    TransformerOptions options = toy_options(0.5f, pre_norm);
    options.decoder_layers = 2;
    options.target_vocab = vocab;
    options.tying = Tying::kNone;  // else a token's own embedding makes it its own successor
    return options;
  }

  DecoderState begin() const {
    std::vector<Pair> pairs;
    for (const Ids& source : sources) pairs.push_back({source, {}});
    const Batch input = batch_of(pairs);
    return model.begin_decoding(model.encode(input.source_ids, input.source), input.source);
  }
  /// The hidden state of the last of these positions, by decode() over all of them.
  Rows last_hidden(size_t source, const Ids& prefix) const {
    const Batch input = batch_of({{sources[source], {}}});
    const auto length = int64_t(prefix.size());
    const Packing packing = make_packing(std::vector<int64_t>{length}, parameters.device());
    const Tensor hidden =
        model.decode(ids(prefix), packing, model.encode(input.source_ids, input.source), input.source);
    return hidden.rows(length - 1, length).cast(DType::f64).to_vector<double>();
  }
  /// log p(ids, kEos | source), from the loss with teacher forcing.
  double log_probability(size_t source, const Ids& ids) const {
    return -model.loss(batch_of({{sources[source], ids}})).sum.cast(DType::f64).item();
  }
  /// The next position of all rows.
  Tensor next(const Ids& tokens, DecoderState& state) const { return model.decode_next(ids(tokens), state); }

 private:
  Tensor ids(const Ids& values) const {
    return Tensor::from(std::span<const int32_t>(values), {int64_t(values.size())}, parameters.device());
  }
  Batch batch_of(const std::vector<Pair>& pairs) const {
    return make_batch(std::span<const Pair>(pairs), {.device = parameters.device()});
  }
};

/// Largest difference of row r of `hidden` from `expected`.
inline double difference(const Tensor& hidden, int64_t r, const Rows& expected) {
  const auto row = hidden.rows(r, r + 1).cast(DType::f64).to_vector<double>();
  double most = 0;
  for (size_t i = 0; i < row.size(); ++i) most = std::max(most, std::abs(row[i] - expected.at(i)));
  return most;
}

/// Every position by decode_next() is, within `bound`, that of decode() over all positions before it.
inline void check_positions(const ParametersOptions& store, bool pre_norm, double bound) {
  const RandomModel random(store, pre_norm);
  DecoderState state = random.begin();
  std::vector<Ids> prefixes(4);
  for (int32_t t = 0; t < 40; ++t) {  // beyond the first room and that after it
    CHECK(state.length() == t);
    Ids tokens;
    for (size_t s = 0; s < 4; ++s) {
      tokens.push_back(t == 0 ? kBos : kSpecialTokens + int32_t(t * 3 + int32_t(s) * 5) % 10);
      prefixes[s].push_back(tokens.back());
    }
    const Tensor hidden = random.next(tokens, state);
    CAPTURE(t, pre_norm);
    for (size_t s = 0; s < 4; ++s) CHECK(difference(hidden, int64_t(s), random.last_hidden(s, prefixes[s])) < bound);
  }
}

/// Likewise where rows are dropped, repeated and put in another order in between.
inline void check_selections(const ParametersOptions& store, double bound) {
  const RandomModel random(store);
  DecoderState state = random.begin();
  struct Row {
    size_t source;
    Ids prefix;
  };
  std::vector<Row> rows{{0, {}}, {1, {}}, {2, {}}, {3, {}}};
  int32_t token = 0;
  for (const Ids& selection : {Ids{0, 0, 1, 2, 2, 2, 3}, {1, 0, 3, 4, 5, 3}, {1, 0, 3, 5}, {2, 3}, {1}}) {
    for (int step = 0; step < 9; ++step) {
      Ids tokens;
      for (Row& row : rows) row.prefix.push_back(tokens.emplace_back(kSpecialTokens + token++ % 10));
      const Tensor hidden = random.next(tokens, state);
      REQUIRE(hidden.dim(0) == int64_t(rows.size()));
      for (size_t r = 0; r < rows.size(); ++r)
        CHECK(difference(hidden, int64_t(r), random.last_hidden(rows[r].source, rows[r].prefix)) < bound);
    }
    state.select(selection);
    std::vector<Row> selected;
    for (const int32_t r : selection) selected.push_back(rows[size_t(r)]);
    rows = selected;
    CHECK(state.rows() == int64_t(rows.size()));
  }
  state.select({});
  CHECK(state.rows() == 0);
  CHECK(random.next({}, state).dim(0) == 0);
}

}  // namespace libtrain::testing
