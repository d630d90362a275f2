#include "libtrain/data/vocabulary.h"

#include "libtrain/error.h"
#include "tests/catch.h"
#include "tests/data/temporary_file.h"

namespace libtrain {
namespace {
using test::message_of;
using Tokens = std::vector<std::string>;
using Ids = std::vector<int32_t>;

Tokens chars(std::string_view text) { return tokenize(text, TokenKind::kChars); }
Tokens words(std::string_view text) { return tokenize(text, TokenKind::kWords); }

TEST_CASE("tokenize: characters are Unicode scalar values") {
  CHECK(chars("") == Tokens{});
  CHECK(chars("a b") == Tokens{"a", " ", "b"});
  CHECK(chars("한국어") == Tokens{"한", "국", "어"});
  CHECK(chars("ひらがな") == Tokens{"ひ", "ら", "が", "な"});
  CHECK(chars("𝄞x") == Tokens{"𝄞", "x"});
  CHECK(chars("tʰaː") == Tokens{"t", "ʰ", "a", "ː"});  // modifier letters are letters
}

TEST_CASE("tokenize: combining marks stay with their base") {
  CHECK(chars("o\u0303\u0301n") == Tokens{"o\u0303\u0301", "n"});  // nasal o with high tone
  CHECK(chars("t\u0361ʃ") == Tokens{"t\u0361", "ʃ"});              // tie bar
  CHECK(chars("n\u0329l\u0325") == Tokens{"n\u0329", "l\u0325"});  // syllabic n, voiceless l
  CHECK(chars("か\u3099き\u309A") == Tokens{"か\u3099", "き\u309A"});
  CHECK(chars("❤\uFE0F語\U000E0100") == Tokens{"❤\uFE0F", "語\U000E0100"});  // variation selectors
  CHECK(chars("हिंदी") == Tokens{"हिं", "दी"});
  CHECK(chars("\u0301a") == Tokens{"\u0301", "a"});
}

TEST_CASE("tokenize: marks begin and end where Unicode says") {
  for (const char* mark : {"\u0300", "\u036F", "\u1AB0", "\u1ACE", "\u1DC0", "\u1DFF", "\u20D0", "\u20F0", "\uFE00",
                           "\uFE20", "\uFE2F", "\u3099", "\u309A", "\u05B0", "\u0E31", "\U000E01EF"}) {
    INFO("mark " << mark);
    CHECK(chars(std::string("a") + mark).size() == 1);
  }
  for (const char* letter : {"\u02FF", "\u0370", "\u1AAD", "\u1E00", "\u20CF", "\u20F1", "\uFE10", "\uFE30", "\u3098",
                             "\u309B", "\U000E01F0"}) {
    INFO("no mark " << letter);
    CHECK(chars(std::string("a") + letter).size() == 2);
  }
}

TEST_CASE("tokenize: words are what stands between spaces") {
  CHECK(words("AE B IY") == Tokens{"AE", "B", "IY"});
  CHECK(words("  ein\u00A0Wort  zwei ") == Tokens{"ein\u00A0Wort", "zwei"});  // only the ASCII space separates
  CHECK(words("   ") == Tokens{});
  CHECK(words("") == Tokens{});
}

TEST_CASE("detokenize undoes tokenize") {
  for (const char* text : {"", " a  b ", "t\u0361ʃõ\u0301", "한국어 ひらがな", "\u0301x"})
    CHECK(detokenize(chars(text), TokenKind::kChars) == text);
  CHECK(detokenize(words(" AE  B IY"), TokenKind::kWords) == "AE B IY");
  CHECK(detokenize(Tokens{}, TokenKind::kWords).empty());
}

TEST_CASE("find_invalid_utf8 accepts every scalar value at the edges of the encoding") {
  for (const char* text : {"", "\x7F", "\u0080", "\u07FF", "\u0800", "\uD7FF", "\uE000", "\uFFFF", "\U00010000",
                           "\U0010FFFF", "ein Wort ひ 𝄞"})
    CHECK_FALSE(find_invalid_utf8(text));
  CHECK_FALSE(find_invalid_utf8(std::string_view("\0", 1)));
}

TEST_CASE("find_invalid_utf8 gives the offset of the first ill-formed sequence") {
  const char* bad[] = {
      "\x80",              // continuation without lead
      "\xC3",              // cut short at the end
      "\xE3\x81",          // cut short at the end
      "\xF0\x9D\x84",      // cut short at the end
      "\xE3\x81z",         // cut short by a letter
      "\xC0\x80",          // overlong U+0000
      "\xC1\xBF",          // overlong U+007F
      "\xE0\x9F\xBF",      // overlong U+07FF
      "\xF0\x8F\xBF\xBF",  // overlong U+FFFF
      "\xED\xA0\x80",      // U+D800
      "\xED\xBF\xBF",      // U+DFFF
      "\xF4\x90\x80\x80",  // U+110000
      "\xF8\x88\x80\x80\x80",
      "\xBF\xBF",
      "\xF8\x90\x80\x80",
      "\xFE",
      "\xFF",
  };
  for (const std::string sequence : bad) {
    CHECK(find_invalid_utf8(sequence) == 0u);
    CHECK(find_invalid_utf8("aé" + sequence) == 3u);
    CHECK(find_invalid_utf8("aé" + sequence + "\xFF") == 3u);
  }
  CHECK(find_invalid_utf8(std::string_view("aあ", 3)) == 1u);  // the rest of the letter lies behind the end of the view
}

TEST_CASE("tokenize refuses ill-formed text and names the offset") {
  for (const auto kind : {TokenKind::kChars, TokenKind::kWords})
    CHECK(message_of<DataError>([&] { tokenize("ab \xE9t", kind); }) ==
          "[tokenize] expected UTF-8, got byte 0xE9 at offset 3; convert the text to UTF-8");
}

TEST_CASE("Vocabulary numbers by frequency, then by bytes") {
  const auto vocabulary = Vocabulary::build({{"b", "한", "a"}, {"c", "b", "한", "b"}});
  CHECK(vocabulary.tokens() == Tokens{"<pad>", "<s>", "</s>", "<unk>", "b", "한", "a", "c"});
  CHECK(vocabulary.size() == 8);
  CHECK(vocabulary == Vocabulary::build({{"한", "c", "b", "b"}, {"a", "한", "b"}}));
  CHECK_FALSE(vocabulary == Vocabulary::build({{"b"}}));
  CHECK(Vocabulary().size() == kSpecialTokens);
  CHECK(Vocabulary() == Vocabulary::build({}));
}

TEST_CASE("Vocabulary keeps the frequent tokens") {
  const std::vector<Tokens> text{{"b", "a", "b", "c"}, {"c", "b", "d", "<s>", "<s>"}};  // b 3, c 2, a 1, d 1
  const auto kept = [&](const VocabularyOptions& options) {
    const auto all = Vocabulary::build(text, options).tokens();
    return Tokens(all.begin() + kSpecialTokens, all.end());
  };
  CHECK(kept({}) == Tokens{"b", "c", "a", "d"});
  CHECK(kept({.min_count = 2}) == Tokens{"b", "c"});
  CHECK(kept({.min_count = 4}) == Tokens{});
  CHECK(kept({.max_size = kSpecialTokens + 3}) == Tokens{"b", "c", "a"});
  CHECK(kept({.max_size = kSpecialTokens + 9}) == Tokens{"b", "c", "a", "d"});
  CHECK(kept({.min_count = 3, .max_size = kSpecialTokens + 3}) == Tokens{"b"});
  CHECK(Vocabulary::build(text, {.min_count = 3}).encode(text[0]) == Ids{4, kUnk, 4, kUnk});
  CHECK(message_of<InvalidArgument>([&] { kept({.min_count = 0}); }) == "[Vocabulary] min_count must be >= 1, got 0");
  CHECK(message_of<InvalidArgument>([&] { kept({.max_size = 4}); }) ==
        "[Vocabulary] max_size must be > 4, for as many tokens are special, or 0 (no limit), got 4");
}

TEST_CASE("Vocabulary maps tokens to ids and back") {
  const auto vocabulary = Vocabulary::build({chars("o\u0303no\u0303")});
  CHECK(vocabulary.id("o\u0303") == 4);
  CHECK(vocabulary.id("n") == 5);
  CHECK(vocabulary.id("o") == kUnk);
  CHECK(vocabulary.token(4) == "o\u0303");
  CHECK(vocabulary.token(kEos) == "</s>");
  CHECK(vocabulary.encode(chars("no\u0303x")) == Ids{5, 4, kUnk});
  CHECK(vocabulary.encode(Tokens{}).empty());
}

TEST_CASE("Vocabulary::decode stops at the end and leaves padding out") {
  const auto vocabulary = Vocabulary::build({{"a", "b", "a"}});
  CHECK(vocabulary.decode(Ids{kBos, 4, kPad, 5, kUnk, kEos, 4, 99}) == Tokens{"a", "b", "<unk>"});
  CHECK(vocabulary.decode(Ids{kEos}).empty());
  CHECK(vocabulary.decode(Ids{}).empty());
}

TEST_CASE("Vocabulary names id and size of an id outside") {
  const auto vocabulary = Vocabulary::build({{"a", "b"}});
  CHECK(message_of<InvalidArgument>([&] { vocabulary.token(6); }) ==
        "[Vocabulary::token] expected an id in [0, 6), got 6; decode with the vocabulary that encoded");
  CHECK(message_of<InvalidArgument>([&] { vocabulary.token(-1); }) ==
        "[Vocabulary::token] expected an id in [0, 6), got -1; decode with the vocabulary that encoded");
  CHECK_THROWS_AS(vocabulary.decode(Ids{4, 6}), InvalidArgument);
}

TEST_CASE("Special ids cannot be reached from text") {
  const auto vocabulary = Vocabulary::build({words("a <s> </s> <pad> <unk> a")});
  CHECK(vocabulary.size() == kSpecialTokens + 1);
  CHECK(vocabulary.encode(words("<s> a </s> <pad> <unk>")) == Ids{kUnk, 4, kUnk, kUnk, kUnk});
}

TEST_CASE("Vocabulary comes back from its list of tokens") {
  const auto vocabulary = Vocabulary::build({chars("한국어 t\u0361ʃ")});
  const Vocabulary loaded(vocabulary.tokens());
  CHECK(loaded == vocabulary);
  CHECK(loaded.id("국") == vocabulary.id("국"));
  CHECK(loaded.id("<s>") == kUnk);
}

TEST_CASE("Vocabulary checks a list of tokens") {
  const auto message = [](Tokens tokens) { return message_of<InvalidArgument>([&] { Vocabulary{tokens}; }); };
  CHECK(message({"<pad>", "<s>", "</s>"}) ==
        "[Vocabulary] expected at least the tokens <pad> <s> </s> <unk>, got 3 tokens; build() makes a vocabulary from "
        "sequences");
  CHECK(message({"<pad>", "</s>", "<s>", "<unk>", "a"}) ==
        "[Vocabulary] expected '<s>' as token 1, got '</s>'; pass the list that tokens() gave");
  CHECK(message({"<pad>", "<s>", "</s>", "<unk>", "a", "b", "a"}) ==
        "[Vocabulary] expected distinct tokens, got 'a' as token 4 and token 6; drop the second");
  CHECK(message({"<pad>", "<s>", "</s>", "<unk>", "a", "<s>"}) ==
        "[Vocabulary] expected distinct tokens, got '<s>' again as token 5; drop the second");
  CHECK(message({"<pad>", "<s>", "</s>", "<unk>", ""}) ==
        "[Vocabulary] expected tokens of at least one byte, got an empty token 4; drop it");
  CHECK(message({"<pad>", "<s>", "</s>", "<unk>", "a\xFF"}) ==
        "[Vocabulary] expected UTF-8, got a bad byte at offset 1 of token 4; convert the text to UTF-8");
}
}  // namespace
}  // namespace libtrain
