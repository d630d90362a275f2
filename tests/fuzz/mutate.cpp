#include "fuzz/mutate.h"

#include <algorithm>
#include <cctype>

namespace libtrain::fuzz {
namespace {

using Tokens = std::vector<std::string>;

/// Numbers at the edges of the types that they may be read into, and a value of every other kind.
const Tokens kValues{"0",
                     "1",
                     "2",
                     "3",
                     "4",
                     "7",
                     "8",
                     "9",
                     "-1",
                     "-0",
                     "1.0",
                     "0.5",
                     "1e0",
                     "1e308",
                     "1e999",
                     "01",
                     "255",
                     "256",
                     "65536",
                     "2147483647",
                     "2147483648",
                     "4294967295",
                     "4294967296",
                     "4611686018427387904",
                     "4611686018427387905",
                     "9007199254740992",
                     "9007199254740993",
                     "9223372036854775807",
                     "9223372036854775808",
                     "18446744073709551615",
                     "18446744073709551616",
                     "18446744073709551620",
                     "100000000000000000000000000000",
                     "null",
                     "true",
                     "{}",
                     "[]",
                     "\"\""};
/// In texts: escapes, ends of encodings, what is cut short, marks.
const Tokens kPieces{"\\u0000",
                     "\\uD800",
                     "\\uD83D\\uDE00",
                     "\\\"",
                     "\\",
                     "\\x",
                     "\xC3\xA9",
                     "\xF0\x9F\x98\x80",
                     "\xED\xA0\x80",
                     "\xC0\x80",
                     "\xFF",
                     "\xEF\xBB\xBF",
                     std::string(1, '\0'),
                     "\n",
                     "\r",
                     "\r\n",
                     "\t",
                     " ",
                     "\x7F",
                     "\xCC\x81",
                     "\xE2\x80\xA8",
                     "'",
                     "\"",
                     "<s>",
                     "<unk>",
                     "="};

size_t text_end(std::string_view text, size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at)
    if (text[at] == '\\') ++at;
  return std::min(at + 1, text.size());
}

size_t token_end(std::string_view text, size_t at) {
  constexpr std::string_view kPunctuation = "{}[],:", kSpaces = " \t\r\n";
  if (text[at] == '"') return text_end(text, at);
  if (kPunctuation.find(text[at]) != kPunctuation.npos) return at + 1;
  if (kSpaces.find(text[at]) != kSpaces.npos) return std::min(text.find_first_not_of(kSpaces, at), text.size());
  return std::min(text.find_first_of("{}[],:\" \t\r\n", at), text.size());
}

/// [first, last) of the value that begins with this token: the token, or all up to the bracket that closes it.
size_t value_end(const Tokens& tokens, size_t at) {
  int depth = 0;
  for (; at < tokens.size(); ++at) {
    const char c = tokens[at][0];
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (depth <= 0) return at + 1;
  }
  return at;
}

std::string joined(const Tokens& tokens, const std::string& between = "") {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) text += (i ? between : "") + tokens[i];
  return text;
}

std::string changed_text(const std::string& text, const Tokens& words, Random& random) {
  if (random.once_in(2) && !words.empty()) return "\"" + any_of(words, random) + "\"";
  std::string changed = text;
  const size_t at = 1 + random.below(text.size() - 1);
  if (random.once_in(3))
    changed.erase(std::min(at, changed.size() - 1), 1);
  else
    changed.insert(std::min(at, changed.size()), any_of(kPieces, random));
  return changed;
}

std::string changed_number(const std::string& text, Random& random) {
  const bool digits = !text.empty() && text.size() < 18 && text.find_first_not_of("0123456789") == text.npos;
  if (!digits || random.once_in(2)) return any_of(kValues, random);
  const int64_t value = std::stoll(text);
  constexpr int64_t kSteps[] = {-8, -4, -1, 1, 4, 8};
  return std::to_string(random.once_in(4) ? value * 2 : value + kSteps[random.below(6)]);
}

void change_token(Tokens& tokens, size_t at, const Tokens& words, Random& random) {
  std::string& token = tokens[at];
  if (token[0] == '"')
    token = changed_text(token, words, random);
  else if (std::string_view("{}[],:").find(token[0]) == std::string_view::npos)
    token = changed_number(token, random);
  else
    token = std::string(1, "{}[],:"[random.below(6)]);
}

/// One that is no white space, which is half of what a writer sets.
size_t any_token(const Tokens& tokens, Random& random) {
  size_t at = random.below(tokens.size());
  while (at + 1 < tokens.size() && std::isspace(uint8_t(tokens[at][0]))) ++at;
  return at;
}

void change_tokens(Tokens& tokens, const Tokens& words, Random& random) {
  const size_t at = any_token(tokens, random), other = any_token(tokens, random);
  const Tokens value(tokens.begin() + int64_t(at), tokens.begin() + int64_t(value_end(tokens, at)));
  switch (random.below(8)) {
    case 0:  // gone
      tokens.erase(tokens.begin() + int64_t(at), tokens.begin() + int64_t(at + value.size()));
      return;
    case 1:  // twice
      tokens.insert(tokens.begin() + int64_t(at), ",");
      tokens.insert(tokens.begin() + int64_t(at), value.begin(), value.end());
      return;
    case 2:  // elsewhere too
      tokens.insert(tokens.begin() + int64_t(other), value.begin(), value.end());
      return;
    case 3:
      std::swap(tokens[at], tokens[other]);
      return;
    case 4:  // nested
      tokens.insert(tokens.begin() + int64_t(at + value.size()), "]");
      tokens.insert(tokens.begin() + int64_t(at), "[");
      return;
    case 5:  // of another kind
      tokens.erase(tokens.begin() + int64_t(at) + 1, tokens.begin() + int64_t(at + value.size()));
      tokens[at] = any_of(kValues, random);
      return;
    default:
      change_token(tokens, at, words, random);
  }
}

Tokens lines_of(const std::string& text) {
  Tokens lines;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

}  // namespace

std::string any_of(const std::vector<std::string>& words, Random& random) {
  return words.empty() ? "" : words[random.below(words.size())];
}

std::vector<std::string> json_tokens(std::string_view text) {
  Tokens tokens;
  for (size_t at = 0; at < text.size();) {
    const size_t end = token_end(text, at);
    tokens.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return tokens;
}

std::string mutate_json(const std::string& text, const std::vector<std::string>& words, Random& random) {
  if (random.once_in(16)) return mutate_bytes(text, random);
  Tokens tokens = json_tokens(text);
  for (size_t times = 1 + random.below(3); times > 0 && !tokens.empty(); --times) change_tokens(tokens, words, random);
  return joined(tokens);
}

std::string mutate_lines(const std::string& text, const std::vector<std::string>& words, Random& random) {
  Tokens lines = lines_of(text);
  const size_t at = random.below(lines.size()), other = random.below(lines.size());
  const std::string piece = random.once_in(2) ? any_of(kPieces, random) : any_of(words, random);
  switch (random.below(7)) {
    case 0:
      lines.erase(lines.begin() + int64_t(at));
      break;
    case 1:
      lines.insert(lines.begin() + int64_t(at), lines[other]);
      break;
    case 2:
      std::swap(lines[at], lines[other]);
      break;
    case 3:
      lines.insert(lines.begin() + int64_t(at), piece);
      break;
    case 4:
      lines[at] = piece;
      break;
    case 5:
      lines[at].insert(random.below(lines[at].size() + 1), piece);
      break;
    default:
      return mutate_bytes(text, random);
  }
  return joined(lines, "\n");
}

}  // namespace libtrain::fuzz
