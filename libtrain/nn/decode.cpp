#include "libtrain/nn/decode.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "libtrain/ops/softmax.h"

namespace libtrain {
namespace {

using Ids = std::vector<int32_t>;

/// The state in which all sources wait for their first token. `op` names the caller in messages.
DecoderState begin(const char* op, const Transformer& model, std::span<const Ids> sources, int64_t max_length,
                   Device device) {
  const int64_t positions = model.options().max_positions;
  LIBTRAIN_CHECK(max_length >= 0 && max_length < positions,
                 "[{}] max_length must be in [0, {}), got {}; the model has {} positions, of which kBos takes one", op,
                 positions, max_length, positions);
  std::vector<Pair> pairs;
  for (const Ids& source : sources) {
    LIBTRAIN_CHECK(int64_t(source.size()) < positions,
                   "[{}] source {} has {} ids, the model takes {} and kEos; shorten it, or train with larger "
                   "max_positions",
                   op, pairs.size(), source.size(), positions - 1);
    pairs.push_back({source, {}});
  }
  const Batch input =
      make_batch(std::span<const Pair>(pairs), {.source_vocab = model.options().source_vocab, .device = device});
  return model.begin_decoding(model.encode(input.source_ids, input.source), input.source);
}

/// Logits [rows, target_vocab] of the next position, given the last token of each row.
Tensor next_logits(const Transformer& model, std::span<const int32_t> last, DecoderState& state, Device device) {
  return model.project(model.decode_next(Tensor::from(last, {int64_t(last.size())}, device), state));
}

struct Token {
  int32_t id;
  float value;
};

/// The tokens of the `count` largest values of a row, largest first, of those that may be produced. Ties go to the lower id. NaN is never taken.
std::vector<Token> largest(const float* row, size_t vocab, size_t count) {
  std::vector<Token> found;
  found.reserve(count + 1);
  const auto consider = [&](size_t id) {
    if (found.size() < count ? std::isnan(row[id]) : !(row[id] > found.back().value)) return;
    found.push_back({int32_t(id), row[id]});
    for (size_t at = found.size() - 1; at > 0 && found[at - 1].value < found[at].value; --at)
      std::swap(found[at - 1], found[at]);
    if (found.size() > count) found.pop_back();
  };
  consider(kEos);
  for (size_t id = kSpecialTokens; id < vocab; ++id) consider(id);
  return found;
}

/// One search over all sources.
class BeamSearch {
 public:
  BeamSearch(const BeamOptions& options, size_t sources, int64_t max_length, size_t vocab)
      : options_(options), max_length_(max_length), vocab_(vocab), found_(sources) {
    for (size_t s = 0; s < sources; ++s) open_.push_back({s, {}, 0, 0});
  }

  /// An unfinished target.
  struct Row {
    size_t source;
    Ids ids;
    double log_probability;
    int32_t from;  // the row of the step before that it continues
    int32_t last() const { return ids.empty() ? kBos : ids.back(); }
  };
  /// Those of each source are neighbours, the most probable first.
  const std::vector<Row>& open() const { return open_; }

  /// Continues every row by one token, given the log-probabilities [rows, vocab] of what follows each.
  void step(const std::vector<float>& next_log_probabilities) {
    std::vector<Row> next;
    for (size_t first = 0, end = 0; first < open_.size(); first = end) {
      while (end < open_.size() && open_[end].source == open_[first].source) ++end;
      continue_source(first, end, next_log_probabilities, next);
    }
    open_ = std::move(next);
    ++length_;
  }

  /// What was found for each source.
  std::vector<std::vector<Hypothesis>> results() && {
    for (auto& hypotheses : found_)
      if (hypotheses.empty()) hypotheses.push_back({{}, std::nan(""), std::nan("")});  // nothing was probable
    return std::move(found_);
  }

 private:
  struct Candidate {
    size_t row;
    int32_t id;
    double log_probability;
  };

  /// The most probable continuations of rows [first, end), most probable first; twice as many as there are beams, so that enough go on
  /// however many of them end.
  std::vector<Candidate> candidates(size_t first, size_t end, const std::vector<float>& next_log_probabilities) const {
    const auto count = size_t(2 * options_.beams);
    std::vector<Candidate> all;
    for (size_t r = first; r < end; ++r)
      for (const Token& token : largest(next_log_probabilities.data() + r * vocab_, vocab_, count))
        all.push_back({r, token.id, open_[r].log_probability + double(token.value)});
    std::ranges::stable_sort(all, std::ranges::greater(), &Candidate::log_probability);
    all.resize(std::min(all.size(), count));
    return all;
  }

  void continue_source(size_t first, size_t end, const std::vector<float>& next_log_probabilities,
                       std::vector<Row>& next) {
    if (length_ == max_length_) {
      for (size_t r = first; r < end; ++r)
        finish(open_[r], open_[r].log_probability + double(next_log_probabilities[r * vocab_ + kEos]));
      return;
    }
    std::vector<Row> open;
    const auto all = candidates(first, end, next_log_probabilities);
    for (size_t c = 0; c < all.size() && open.size() < size_t(options_.beams); ++c) {
      const Row& row = open_[all[c].row];
      if (all[c].id == kEos) {
        if (c < size_t(options_.beams)) finish(row, all[c].log_probability);
        continue;
      }
      open.push_back({row.source, row.ids, all[c].log_probability, int32_t(all[c].row)});
      open.back().ids.push_back(all[c].id);
    }
    if (!open.empty() && may_do_better(open.front())) std::ranges::move(open, std::back_inserter(next));
  }

  /// Whether the most probable open target of a source may come to be one of its `beams` best: whether it would, if it lost nothing more and
  /// ended where the penalty favours it most.
  bool may_do_better(const Row& row) const {
    const auto& found = found_[row.source];
    const size_t length = options_.length_penalty > 0 ? size_t(max_length_) : row.ids.size();
    return found.size() < size_t(options_.beams) || row.log_probability / penalty(length) > found.back().score;
  }

  /// Keeps the target, if it is one of the `beams` best of its source. A score that is NaN has no place among them.
  void finish(const Row& row, double log_probability) {
    const double score = log_probability / penalty(row.ids.size());
    if (std::isnan(score)) return;
    auto& found = found_[row.source];
    const auto behind = std::ranges::upper_bound(found, score, std::ranges::greater(), &Hypothesis::score);
    found.insert(behind, {row.ids, log_probability, score});
    if (found.size() > size_t(options_.beams)) found.pop_back();
  }

  /// What the log-probability of a target of so many ids is divided by.
  double penalty(size_t length) const { return std::pow((5 + double(length) + 1) / 6, options_.length_penalty); }

  BeamOptions options_;
  int64_t max_length_, length_ = 0;
  size_t vocab_;
  std::vector<std::vector<Hypothesis>> found_;  // of each source the best, best first
  std::vector<Row> open_;
};

}  // namespace

std::vector<Ids> greedy_decode(const Transformer& model, std::span<const Ids> sources, int64_t max_length,
                               Device device) {
  const NoTape nothing_recorded;
  DecoderState state = begin("greedy_decode", model, sources, max_length, device);
  const auto vocab = size_t(model.options().target_vocab);
  std::vector<Ids> outputs(sources.size());
  std::vector<size_t> open(sources.size());  // the source of each row
  std::iota(open.begin(), open.end(), size_t(0));
  Ids last(sources.size(), kBos);
  for (int64_t length = 0; length < max_length && !open.empty(); ++length) {
    const auto logits = next_logits(model, last, state, device).cast(DType::f32).to_vector<float>();
    std::vector<size_t> still_open;
    Ids rows;
    last.clear();
    for (size_t r = 0; r < open.size(); ++r) {
      const auto best = largest(logits.data() + r * vocab, vocab, 1);
      if (best.empty() || best[0].id == kEos) continue;
      outputs[open[r]].push_back(best[0].id);
      still_open.push_back(open[r]);
      rows.push_back(int32_t(r));
      last.push_back(best[0].id);
    }
    if (rows.size() < open.size()) state.select(rows);
    open = std::move(still_open);
  }
  return outputs;
}

std::vector<std::vector<Hypothesis>> beam_decode(const Transformer& model, std::span<const Ids> sources,
                                                 int64_t max_length, const BeamOptions& options, Device device) {
  constexpr int64_t kMostBeams = 1 << 16;
  LIBTRAIN_CHECK(options.beams >= 1 && options.beams <= kMostBeams,
                 "[beam_decode] beams must be in [1, {}], got {}; 4 is usual", kMostBeams, options.beams);
  LIBTRAIN_CHECK(std::isfinite(options.length_penalty),
                 "[beam_decode] length_penalty must be finite, got {}; 0 turns it off, 0.6 is usual",
                 options.length_penalty);
  const NoTape nothing_recorded;
  DecoderState state = begin("beam_decode", model, sources, max_length, device);
  BeamSearch search(options, sources.size(), max_length, size_t(model.options().target_vocab));
  for (bool first = true; !search.open().empty(); first = false) {
    Ids rows, last;
    for (const BeamSearch::Row& row : search.open()) rows.push_back(row.from), last.push_back(row.last());
    if (!first) state.select(rows);
    const Tensor logits = next_logits(model, last, state, device).cast(DType::f32);
    search.step(log_softmax(logits).to_vector<float>());
  }
  return std::move(search).results();
}

}  // namespace libtrain
