/// Text to token ids and back: two tokenizers, and the vocabulary that numbers tokens.
///
///   auto tokens = tokenize("hello", TokenKind::kChars);        // {"h","e","l","l","o"}
///   Vocabulary vocabulary = Vocabulary::build({tokens});       // <pad> <s> </s> <unk> l e h o
///   std::vector<int32_t> ids = vocabulary.encode(tokens);      // {6,5,4,4,7}
///   detokenize(vocabulary.decode(ids), TokenKind::kChars);     // "hello"
///
/// Text is taken as it is: no case folding and no Unicode normalisation, so a precomposed and a decomposed letter differ.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "libtrain/utf8.h"

namespace libtrain {

/// The first ids of every vocabulary.
inline constexpr int32_t kPad = 0;            ///< fills batches; ignored by the loss
inline constexpr int32_t kBos = 1;            ///< what the decoder reads first
inline constexpr int32_t kEos = 2;            ///< what ends a target
inline constexpr int32_t kUnk = 3;            ///< every token that the vocabulary does not have
inline constexpr int32_t kSpecialTokens = 4;  ///< how many there are: the id of the first ordinary token

/// How text is cut into tokens.
enum class TokenKind {
  /// One Unicode scalar value a token, spaces included. Combining marks (general categories Mn, Mc, Me; variation selectors are among them)
  /// stay with the character before them, so an IPA vowel with its diacritics is one token; a mark at the start of the text is a token of its
  /// own.
  kChars,
  /// The pieces between ASCII spaces. Runs of spaces, and spaces at either end, make no token.
  kWords,
};

/// Cuts `text` into tokens. Throws DataError naming the byte offset when `text` is not UTF-8.
std::vector<std::string> tokenize(std::string_view text, TokenKind kind);

/// Joins tokens: nothing between characters, one space between words. For characters it is the inverse of tokenize; for
/// words up to the number of spaces.
std::string detokenize(std::span<const std::string> tokens, TokenKind kind);

/// Which tokens get a number; the others are kUnk, which is so trained to stand for rare ones.
struct VocabularyOptions {
  int64_t min_count = 1;  ///< those that come so often at least
  int64_t max_size = 0;   ///< so many at most, the special ones included, the most frequent ones; 0: all
};

/// The numbering of tokens: kPad, kBos, kEos, kUnk, then the tokens of the training text.
///
/// The special ids cannot be reached from text: a text token spelt like one of their names ("<s>") is an unknown token.
/// Copyable; const calls may run on several threads at once.
class Vocabulary {
 public:
  /// Only the special tokens.
  Vocabulary();
  /// Takes the list that tokens() gave, as a checkpoint stores it. Throws InvalidArgument, with the position and the
  /// token, unless it begins with <pad> <s> </s> <unk> and all tokens are distinct, not empty and UTF-8.
  explicit Vocabulary(std::vector<std::string> tokens);
  /// All tokens of `sequences`, most frequent first, equally frequent ones in the order of their bytes: the same text
  /// gives the same ids, whatever the order of its lines. Throws as the constructor does for an empty or ill-formed
  /// token, and InvalidArgument for options that leave room for no token.
  static Vocabulary build(std::span<const std::vector<std::string>> sequences, const VocabularyOptions& options = {});
  static Vocabulary build(std::initializer_list<std::vector<std::string>> sequences,
                          const VocabularyOptions& options = {});

  /// Number of ids, the special ones included.
  int64_t size() const { return int64_t(tokens_.size()); }
  /// All tokens in the order of their ids.
  const std::vector<std::string>& tokens() const { return tokens_; }
  /// The id of a text token; kUnk when it is not in the vocabulary.
  int32_t id(std::string_view token) const;
  /// The token of an id. Throws InvalidArgument naming id and size when it is outside [0, size()).
  const std::string& token(int32_t id) const;

  /// The ids of text tokens, without kBos and kEos. Unknown tokens are the kUnk in it.
  std::vector<int32_t> encode(std::span<const std::string> tokens) const;
  /// The tokens before the first kEos, without kPad and kBos; kUnk gives "<unk>". Throws like token().
  std::vector<std::string> decode(std::span<const int32_t> ids) const;

  /// Same tokens under the same ids.
  bool operator==(const Vocabulary& other) const { return tokens_ == other.tokens_; }

 private:
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> ids_;  // text tokens alone: no special token is in it
};

}  // namespace libtrain
