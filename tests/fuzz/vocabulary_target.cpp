/// Vocabularies as a checkpoint stores them, vocabularies from lists of tokens, and the cutting of text. The first byte of an input chooses.
#include <algorithm>

#include "examples/seq2seq/trained_model.h"
#include "fuzz/mutate.h"
#include "fuzz/target.h"
#include "libtrain/data/vocabulary.h"

namespace libtrain::fuzz {
namespace {

const std::vector<std::string> kWords{
    "options", "source", "target", "tokens", "vocabulary", "longest", "data", "pairs", "xxh3_128", "chars",
    "words",   "<pad>",  "<s>",    "</s>",   "<unk>",      "a",       "b",    "é",     ""};

/// A token is a text of the document, a text of the list, and a node of the hash table: of a file, a byte and two quotes at least.
constexpr size_t kBytesOfToken = 1024;

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// Ids and tokens are each other's inverse, and a copy is equal.
void check_vocabulary(const Vocabulary& vocabulary) {
  for (int32_t id = kSpecialTokens; id < vocabulary.size(); ++id)
    require(vocabulary.id(vocabulary.token(id)) == id, "a token with another id");
  require(Vocabulary(vocabulary.tokens()) == vocabulary, "a copy that differs");
}

void read_program(std::string_view text) {
  const std::string program(text);
  std::optional<seq2seq::Codec> codec;
  const auto tokens = [&] {
    return kBytesOfToken * size_t(std::ranges::count(text, ',') + std::ranges::count(text, '"')) + 64 * text.size();
  };
  measured(
      text.size(), [&] { codec = seq2seq::codec_from_json(program); }, tokens);
  check_vocabulary(codec->source);
  check_vocabulary(codec->target);
  seq2seq::Options options;
  const std::string written = seq2seq::program_json(options, *codec, seq2seq::data_id_from_json(program));
  const seq2seq::Codec again = seq2seq::codec_from_json(written);
  require(
      again.source == codec->source && again.target == codec->target && again.longest_target == codec->longest_target,
      "another codec");
  seq2seq::update_from_json(options, seq2seq::options_json(program));
}

void build_vocabulary(std::string_view text) {
  const Vocabulary vocabulary(split(text));
  check_vocabulary(vocabulary);
}

void cut_text(std::string_view text) {
  std::vector<std::vector<std::string>> sequences;
  for (const auto kind : {TokenKind::kChars, TokenKind::kWords}) {
    sequences.push_back(tokenize(text, kind));
    const std::string joined = detokenize(sequences.back(), kind);
    require(kind == TokenKind::kWords || joined == text, "characters that are not those of the text");
    require(tokenize(joined, kind) == sequences.back(), "other tokens of what was joined");
  }
  const Vocabulary vocabulary = Vocabulary::build(sequences);
  check_vocabulary(vocabulary);
  for (const auto& tokens : sequences)
    require(vocabulary.decode(vocabulary.encode(tokens)).size() == tokens.size(), "tokens that were lost");
}

}  // namespace

void prepare() {}

void run(std::string_view input) {
  if (input.empty()) return;
  const uint8_t choice = uint8_t(input[0]);
  input.remove_prefix(1);
  if (choice % 3 == 0) return read_program(input);
  if (choice % 3 == 1) return build_vocabulary(input);
  cut_text(input);
}

std::string mutate(const std::string& input, Random& random) {
  if (input.empty()) return std::string(1, char(random.next()));
  std::string head = input.substr(0, 1);
  if (random.once_in(16)) head[0] = char(random.next());
  const std::string rest = input.substr(1);
  return head + (uint8_t(head[0]) % 3 == 0 ? mutate_json(rest, kWords, random) : mutate_lines(rest, kWords, random));
}

}  // namespace libtrain::fuzz
