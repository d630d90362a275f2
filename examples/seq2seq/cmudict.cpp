#include "examples/seq2seq/cmudict.h"

#include <algorithm>
#include <span>
#include <unordered_map>

#include "libtrain/data/pairs.h"
#include "libtrain/error.h"

namespace seq2seq {
namespace {
constexpr int64_t kMaxLineBytes = 4096;

bool is_letter(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "read(2)" -> "read"
std::string_view without_marker(std::string_view word) {
  const size_t open = word.rfind('(');
  if (open == word.npos || !word.ends_with(')')) return word;
  const std::string_view number = word.substr(open + 1, word.size() - open - 2);
  return !number.empty() && std::ranges::all_of(number, is_digit) ? word.substr(0, open) : word;
}

bool is_kept(std::string_view word) {
  const auto allowed = [](char c) { return is_letter(c) || c == '\''; };
  return std::ranges::all_of(word, allowed) && std::ranges::any_of(word, is_letter);
}

void check_phones(std::span<const std::string> phones, const std::string& path, int64_t line) {
  if (phones.empty())
    throw libtrain::DataError(libtrain::format_message(
        "[{}:{}] expected a word and its phones, got a word alone; add the phones or delete the line", path, line));
  for (const auto& phone : phones)
    if (phone.size() > 2 || !std::ranges::all_of(phone, [](char c) { return c >= 'A' && c <= 'Z'; }))
      throw libtrain::DataError(libtrain::format_message(
          "[{}:{}] expected phones of one or two letters A-Z, got '{}'; use an edition without stress digits", path,
          line, phone));
}

// Entries in the order of their first line, and where each word stands.
class Builder {
 public:
  void add(std::string_view word, std::string pronunciation) {
    const auto [known, added] = index_.emplace(word, entries_.size());
    if (added) entries_.push_back({std::string(word), {}});
    auto& list = entries_[known->second].pronunciations;
    if (std::ranges::find(list, pronunciation) == list.end()) list.push_back(std::move(pronunciation));
  }
  std::vector<Entry> take() { return std::move(entries_); }

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;
};
}  // namespace

std::vector<Entry> read_cmudict(const std::string& path) {
  using libtrain::TokenKind;
  Builder builder;
  libtrain::for_each_text_line(path, kMaxLineBytes, [&](std::string_view line, int64_t number) {
    const auto tokens = libtrain::tokenize(line, TokenKind::kWords);
    if (tokens.empty()) return;
    const std::string_view word = without_marker(tokens[0]);
    if (!is_kept(word)) return;
    const auto phones = std::span(tokens).subspan(1);
    check_phones(phones, path, number);
    builder.add(word, libtrain::detokenize(phones, TokenKind::kWords));
  });
  auto entries = builder.take();
  if (entries.empty())
    throw libtrain::DataError(libtrain::format_message(
        "[{}] expected a dictionary with lines like \"abbey AE B IY\", got no usable word; check the path", path));
  return entries;
}

uint64_t word_hash(std::string_view word) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : word) hash = (hash ^ uint8_t(c)) * 0x100000001B3;
  hash = (hash ^ hash >> 33) * 0xFF51AFD7ED558CCD;
  hash = (hash ^ hash >> 33) * 0xC4CEB9FE1A85EC53;
  return hash ^ hash >> 33;
}

Split split_of(std::string_view word) {
  const uint64_t bucket = word_hash(word) % 100;
  if (bucket < 5) return Split::kTest;
  return bucket < 7 ? Split::kValid : Split::kTrain;
}

}  // namespace seq2seq
