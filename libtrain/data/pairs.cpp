#include "libtrain/data/pairs.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>
#include <utility>

#include "libtrain/error.h"
#include "libtrain/utf8.h"

namespace libtrain {
namespace {
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kPairRemedy = "write one source<TAB>target pair a line";

[[noreturn]] void throw_unreadable(const std::string& path, int error) {
  throw DataError(format_message("[{}] expected a readable text file, got '{}'; check the path and its permissions",
                                 path, std::generic_category().message(error)));
}

// A file read byte by byte from stdio's buffer, so that a line's length is bounded before it is held.
class LineReader {
 public:
  LineReader(std::FILE* file, const std::string& path, int64_t max_line_bytes)
      : path_(path), max_line_bytes_(max_line_bytes), file_(file) {}

  // Puts the next line into `line`; false at the end of the file.
  bool next(std::string& line) {
    line.clear();
    ++number_;
    int byte;
    while ((byte = next_byte()) != EOF && byte != '\n') {
      if (int64_t(line.size()) == max_line_bytes_) throw_too_long();
      line.push_back(char(byte));
    }
    if (byte == EOF && std::ferror(file_)) throw_unreadable(path_, errno);
    return byte != EOF || !line.empty();
  }

  int64_t number() const { return number_; }

 private:
  // Goes on where a signal has interrupted the reading, as it may of a pipe or a terminal.
  int next_byte() {
    int byte = getc_unlocked(file_);
    while (byte == EOF && std::ferror(file_) && errno == EINTR) {
      std::clearerr(file_);
      byte = getc_unlocked(file_);
    }
    return byte;
  }
  [[noreturn]] void throw_too_long() const {
    throw DataError(format_message("[{}:{}] expected lines of at most {} bytes, got a longer one; is this a text file?",
                                   path_, number_, max_line_bytes_));
  }

  const std::string& path_;
  int64_t max_line_bytes_, number_ = 0;
  std::FILE* file_;
};

// Offsets in messages count every byte of the line in the file, a byte order mark included.
void check_bytes(std::string_view line, const std::string& path, int64_t number) {
  if (const size_t zero = line.find('\0'); zero != line.npos)
    throw DataError(
        format_message("[{}:{}] expected text, got a NUL byte at byte offset {} of the line; convert the file "
                       "to UTF-8 (UTF-16 and binary files have such bytes)",
                       path, number, zero));
  if (const auto invalid = find_invalid_utf8(line))
    throw DataError(
        format_message("[{}:{}] expected UTF-8, got byte 0x{:02X} at byte offset {} of the line; convert the "
                       "file to UTF-8",
                       path, number, uint8_t(line[*invalid]), *invalid));
}

std::string_view without_marks(std::string_view line, int64_t number) {
  if (number == 1 && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool is_blank(std::string_view text) { return text.find_first_not_of(' ') == text.npos; }

TextPair split_line(std::string_view line, const std::string& where, int64_t number) {
  const size_t tab = line.find('\t');
  if (tab == line.npos)
    throw DataError(format_message("[{}] expected a tab between source and target, got a line without one; {}", where,
                                   kPairRemedy));
  const std::string_view source = line.substr(0, tab), target = line.substr(tab + 1);
  if (target.find('\t') != target.npos)
    throw DataError(
        format_message("[{}] expected one tab, got more; {}, each further target of a source on a line of its "
                       "own",
                       where, kPairRemedy));
  if (is_blank(source) || is_blank(target))
    throw DataError(format_message("[{}] expected text on both sides of the tab, got an empty {}; {}", where,
                                   is_blank(source) ? "source" : "target", kPairRemedy));
  return {std::string(source), std::string(target), number};
}

void check_length(const TextPair& pair, const std::string& where, const PairOptions& options) {
  if (options.max_length == 0) return;
  const size_t source = tokenize(pair.source, options.source_tokens).size();
  const size_t target = tokenize(pair.target, options.target_tokens).size();
  if (std::max(source, target) > size_t(options.max_length))
    throw DataError(
        format_message("[{}] expected at most {} tokens a side, got {} in the source and {} in the target; "
                       "shorten the pair, or raise max_length (--max-length)",
                       where, options.max_length, source, target));
}
}  // namespace

void for_each_text_line(const std::string& path, int64_t max_line_bytes,
                        const std::function<void(std::string_view line, int64_t number)>& use) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) throw_unreadable(path, errno);
  for_each_text_line(file.get(), path, max_line_bytes, use);
}

void for_each_text_line(std::FILE* file, const std::string& name, int64_t max_line_bytes,
                        const std::function<void(std::string_view line, int64_t number)>& use) {
  LIBTRAIN_CHECK(max_line_bytes >= 0, "[for_each_text_line] expected max_line_bytes >= 0, got {}; 2^20 is usual",
                 max_line_bytes);
  LineReader reader(file, name, max_line_bytes);
  for (std::string line; reader.next(line);) {
    check_bytes(line, name, reader.number());
    use(without_marks(line, reader.number()), reader.number());
  }
}

std::vector<TextPair> read_pairs(const std::string& path, const PairOptions& options, int64_t* blank_lines) {
  LIBTRAIN_CHECK(options.max_length >= 0, "[read_pairs] expected max_length >= 0 (0: no limit), got {}",
                 options.max_length);
  LIBTRAIN_CHECK(options.max_line_bytes > 0, "[read_pairs] expected max_line_bytes > 0, got {}; 2^20 is the default",
                 options.max_line_bytes);
  std::vector<TextPair> pairs;
  int64_t blank = 0;
  for_each_text_line(path, options.max_line_bytes, [&](std::string_view line, int64_t number) {
    if (is_blank(line)) return void(++blank);
    const std::string where = format_message("{}:{}", path, number);
    pairs.push_back(split_line(line, where, number));
    check_length(pairs.back(), where, options);
  });
  if (pairs.empty())
    throw DataError(format_message("[{}] expected at least one pair, got {}; {}", path,
                                   blank == 0 ? "an empty file" : "blank lines only", kPairRemedy));
  if (blank_lines) *blank_lines = blank;
  return pairs;
}

}  // namespace libtrain
