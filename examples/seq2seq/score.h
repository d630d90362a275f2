/// How well predicted token sequences match their references: token error rate and the share of wrong sequences.
///
/// For grapheme-to-phoneme the tokens are phones and the sequences words, hence the customary names: `per` is the
/// phoneme error rate and `wer` the word error rate. For any other task read "token" and "sequence".
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace seq2seq {

/// Totals of an evaluation.
struct Score {
  double per = 0;  ///< percent: 100 * edits / reference_tokens; above 100 when predictions are much too long
  double wer = 0;  ///< percent: 100 * wrong_words / words
  int64_t words = 0;
  int64_t edits = 0;
  int64_t reference_tokens = 0;
  int64_t wrong_words = 0;
};

/// The fewest insertions, deletions and substitutions of one token that turn `a` into `b` (Levenshtein 1966).
/// O(a.size() * b.size()) time, O(b.size()) memory.
int64_t edit_distance(std::span<const std::string> a, std::span<const std::string> b);

/// Adds up predictions. A prediction counts against its nearest reference, the one with the fewest edits (among equals
/// the shortest): its edits go into `edits`, that reference's length into `reference_tokens`. It is wrong when it
/// equals none.
class Scorer {
 public:
  /// `hypothesis` may be empty. Throws libtrain::InvalidArgument when there is no reference or one is empty; nothing is
  /// added then.
  void add(std::span<const std::string> hypothesis, std::span<const std::vector<std::string>> references);
  /// The totals so far; all zero before the first add.
  Score score() const;

 private:
  int64_t words_ = 0, edits_ = 0, reference_tokens_ = 0, wrong_words_ = 0;
};

}  // namespace seq2seq
