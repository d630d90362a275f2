/// The readers of text: pairs, the pronouncing dictionary, and lines alone. The first byte of an input chooses the reader and its options.
#include <algorithm>

#include "examples/seq2seq/cmudict.h"
#include "fuzz/mutate.h"
#include "fuzz/target.h"
#include "libtrain/data/pairs.h"

namespace libtrain::fuzz {
namespace {

const std::vector<std::string> kWords{"abbey\tAE B IY", "a(2) EY",  "b. B IY",        "\t", "a\t", "\tb", "a\tb\tc",
                                      "hello\thola",    "a b\tc d", "read(2) R EH D", "x(", "x()", "AH0", "   "};

/// Several on a line of a file at least two bytes long, each as long as the standard library's smallest allocation.
constexpr size_t kBytesOfPair = 4 * (sizeof(TextPair) + 64), kBytesOfEntry = 4 * 512;

size_t lines_in(std::string_view text) { return 1 + size_t(std::ranges::count(text, '\n')); }

void check_text(std::string_view text) {
  require(!find_invalid_utf8(text) && text.find_first_of(std::string_view("\0\n", 2)) == text.npos, "no line of text");
}

void read_lines(const MemoryFile& file, std::string_view text, int64_t max_line_bytes) {
  int64_t last = 0;
  measured(text.size(), [&] {
    for_each_text_line(file.path(), max_line_bytes, [&](std::string_view line, int64_t number) {
      check_text(line);
      require(number == ++last && int64_t(line.size()) <= max_line_bytes, "a line out of its place");
    });
  });
  require(size_t(last) == lines_in(text) - (text.empty() || text.ends_with('\n')), "lines that are missing");
}

void read_text_pairs(const MemoryFile& file, std::string_view text, const PairOptions& options) {
  std::vector<TextPair> pairs;
  int64_t blank = 0;
  measured(
      text.size(), [&] { pairs = read_pairs(file.path(), options, &blank); },
      [&] { return kBytesOfPair * lines_in(text) + 64 * size_t(options.max_line_bytes < 64 ? 64 : text.size()); });
  require(int64_t(pairs.size()) + blank == int64_t(lines_in(text) - text.ends_with('\n')), "lines that are missing");
  for (const TextPair& pair : pairs)
    for (const auto& [side, kind] :
         {std::pair(&pair.source, options.source_tokens), std::pair(&pair.target, options.target_tokens)}) {
      check_text(*side);
      const auto tokens = tokenize(*side, kind);
      require(!tokens.empty() && side->find('\t') == side->npos, "an empty side, or a tab");
      require(options.max_length == 0 || int64_t(tokens.size()) <= options.max_length, "a pair that is too long");
    }
}

void read_dictionary(const MemoryFile& file, std::string_view text) {
  std::vector<seq2seq::Entry> entries;
  measured(
      text.size(), [&] { entries = seq2seq::read_cmudict(file.path()); },
      [&] { return kBytesOfEntry * lines_in(text) + 64 * text.size(); });
  for (const auto& entry : entries) {
    require(!entry.word.empty() && !entry.pronunciations.empty(), "an entry without word or pronunciation");
    require(entry.word.find_first_not_of("abcdefghijklmnopqrstuvwxyz'") == std::string::npos, "another word");
    seq2seq::split_of(entry.word);
  }
}

}  // namespace

void prepare() {}

void run(std::string_view input) {
  if (input.empty()) return;
  static MemoryFile file;
  const uint8_t choice = uint8_t(input[0]);
  input.remove_prefix(1);
  file.fill(input);
  const int64_t max_line_bytes = choice & 4 ? 16 : 1 << 20;
  const auto kind = [&](int bit) { return choice & bit ? TokenKind::kWords : TokenKind::kChars; };
  switch (choice % 4) {
    case 0:
      return read_lines(file, input, max_line_bytes);
    case 1:
      return read_dictionary(file, input);
    default:
      return read_text_pairs(file, input,
                             {.source_tokens = kind(8),
                              .target_tokens = kind(16),
                              .max_length = choice & 32 ? 3 : 0,
                              .max_line_bytes = max_line_bytes});
  }
}

std::string mutate(const std::string& input, Random& random) {
  if (input.empty()) return std::string(1, char(random.next()));
  std::string head = input.substr(0, 1);
  if (random.once_in(16)) head[0] = char(random.next());
  return head + mutate_lines(input.substr(1), kWords, random);
}

}  // namespace libtrain::fuzz
