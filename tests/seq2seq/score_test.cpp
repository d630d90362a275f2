#include "examples/seq2seq/score.h"

#include "libtrain/data/vocabulary.h"
#include "libtrain/error.h"
#include "tests/catch.h"

namespace seq2seq {
namespace {
using Tokens = std::vector<std::string>;
using References = std::vector<Tokens>;

Tokens words(const char* text) { return libtrain::tokenize(text, libtrain::TokenKind::kWords); }
int64_t distance(const char* a, const char* b) { return edit_distance(words(a), words(b)); }

TEST_CASE("edit_distance counts insertions, deletions and substitutions of whole tokens") {
  CHECK(distance("", "") == 0);
  CHECK(distance("K AE T", "K AE T") == 0);
  CHECK(distance("", "K AE T") == 3);
  CHECK(distance("K AE T", "") == 3);
  CHECK(distance("K AE T", "K AH T") == 1);
  CHECK(distance("K AE T", "K T") == 1);
  CHECK(distance("K T", "K AE T") == 1);
  CHECK(distance("AH B", "B AH") == 2);
  CHECK(distance("K I T T E N", "S I T T I N G") == 3);
  CHECK(distance("S I T T I N G", "K I T T E N") == 3);
  CHECK(distance("AH", "A H") == 2);  // tokens, not characters
}

TEST_CASE("Scorer adds up edits and reference lengths") {
  Scorer scorer;
  scorer.add(words("K AE T"), References{words("K AE T")});
  scorer.add(words("D AO G Z"), References{words("D AA G")});
  const Score score = scorer.score();
  CHECK(score.words == 2);
  CHECK(score.wrong_words == 1);
  CHECK(score.edits == 2);
  CHECK(score.reference_tokens == 6);
  CHECK(score.per == 100.0 * 2 / 6);
  CHECK(score.wer == 50.0);
}

TEST_CASE("Scorer takes the nearest reference, and the shorter of two as near") {
  Scorer nearest;
  nearest.add(words("R EH D"), References{words("R IY D Z"), words("R EH D")});
  CHECK(nearest.score().edits == 0);
  CHECK(nearest.score().reference_tokens == 3);
  CHECK(nearest.score().wrong_words == 0);

  for (const auto& references :
       {References{words("A B C D"), words("A B")}, References{words("A B"), words("A B C D")}}) {
    Scorer tied;
    tied.add(words("A B C"), references);
    CHECK(tied.score().edits == 1);
    CHECK(tied.score().reference_tokens == 2);
    CHECK(tied.score().wrong_words == 1);
  }
}

TEST_CASE("Scorer: an empty hypothesis costs the shortest reference") {
  Scorer scorer;
  scorer.add(Tokens{}, References{words("A B C"), words("A B")});
  CHECK(scorer.score().edits == 2);
  CHECK(scorer.score().per == 100);
  CHECK(scorer.score().wer == 100);
}

TEST_CASE("Scorer: nothing added, nothing divided") {
  CHECK(Scorer().score().words == 0);
  CHECK(Scorer().score().per == 0);
  CHECK(Scorer().score().wer == 0);
}

TEST_CASE("Scorer refuses to score against nothing and stays as it was") {
  Scorer scorer;
  CHECK_THROWS_AS(scorer.add(words("A"), References{}), libtrain::InvalidArgument);
  CHECK_THROWS_AS(scorer.add(words("A"), References{words("A"), Tokens{}}), libtrain::InvalidArgument);
  CHECK(scorer.score().words == 0);
}
}  // namespace
}  // namespace seq2seq
