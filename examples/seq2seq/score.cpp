#include "examples/seq2seq/score.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "libtrain/error.h"

namespace seq2seq {

int64_t edit_distance(std::span<const std::string> a, std::span<const std::string> b) {
  std::vector<int64_t> row(b.size() + 1);  // row[j]: distance of the tokens of a read so far to the first j of b
  std::iota(row.begin(), row.end(), int64_t(0));
  for (size_t i = 0; i < a.size(); ++i) {
    int64_t diagonal = std::exchange(row[0], int64_t(i) + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const int64_t substitute = diagonal + (a[i] != b[j]);
      diagonal = std::exchange(row[j + 1], std::min({row[j + 1] + 1, row[j] + 1, substitute}));
    }
  }
  return row.back();
}

void Scorer::add(std::span<const std::string> hypothesis, std::span<const std::vector<std::string>> references) {
  LIBTRAIN_CHECK(!references.empty(), "[Scorer::add] expected at least one reference, got none");
  std::pair<int64_t, int64_t> nearest(std::numeric_limits<int64_t>::max(),
                                      0);  // edits, then length: ties go to the shorter
  for (const auto& reference : references) {
    LIBTRAIN_CHECK(!reference.empty(), "[Scorer::add] expected references of at least one token, got an empty one");
    nearest = std::min(nearest, {edit_distance(hypothesis, reference), int64_t(reference.size())});
  }
  ++words_;
  edits_ += nearest.first;
  reference_tokens_ += nearest.second;
  wrong_words_ += nearest.first > 0;
}

Score Scorer::score() const {
  if (words_ == 0) return {};
  return {.per = 100.0 * double(edits_) / double(reference_tokens_),
          .wer = 100.0 * double(wrong_words_) / double(words_),
          .words = words_,
          .edits = edits_,
          .reference_tokens = reference_tokens_,
          .wrong_words = wrong_words_};
}

}  // namespace seq2seq
