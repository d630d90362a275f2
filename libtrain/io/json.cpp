#include "libtrain/io/json.h"

#include <algorithm>
#include <charconv>
#include <deque>

#include "libtrain/utf8.h"

namespace libtrain {
namespace {

constexpr size_t kShown = 60;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

size_t skip_spaces(std::string_view text, size_t at) {
  while (at < text.size() && is_space(text[at])) ++at;
  return at;
}

/// The value of the four hexadecimal digits at `at`, or nothing.
std::optional<uint32_t> hex4(std::string_view text, size_t at) {
  uint32_t value = 0;
  const char* const begin = text.data() + std::min(at, text.size());
  const char* const end = begin + std::min<size_t>(4, text.size() - std::min(at, text.size()));
  const auto [stop, error] = std::from_chars(begin, end, value, 16);
  return error == std::errc() && stop == begin + 4 ? std::optional(value) : std::nullopt;
}

bool is_high_surrogate(uint32_t unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool is_low_surrogate(uint32_t unit) { return unit >= 0xDC00 && unit < 0xE000; }

/// The scalar value of the escape whose digits begin at `at`: one unit, or two when the first is half of a pair. Nothing when it is ill-formed.
std::optional<Utf8Scalar> unicode_escape(std::string_view text, size_t at) {
  const auto unit = hex4(text, at);
  if (!unit || is_low_surrogate(*unit)) return {};
  if (!is_high_surrogate(*unit)) return Utf8Scalar{*unit, 4};
  const auto low = text.substr(at + 4, 2) == "\\u" ? hex4(text, at + 6) : std::nullopt;
  if (!low || !is_low_surrogate(*low)) return {};
  return Utf8Scalar{0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00), 10};
}

constexpr std::string_view kEscapes = "\"\\/bfnrt", kEscaped = "\"\\/\b\f\n\r\t";

/// The characters of a checked text, one by one, without quotes and escapes.
class Characters {
 public:
  Characters(std::string_view text, size_t at) : text_(text), at_(at + 1) {}
  std::optional<char32_t> next() {
    if (text_[at_] == '"') return {};
    const Utf8Scalar scalar = text_[at_] == '\\' ? escape() : read_utf8(text_, at_);
    at_ += scalar.bytes;
    return scalar.value;
  }

 private:
  Utf8Scalar escape() const {
    const char kind = text_[at_ + 1];
    if (kind != 'u') return {char32_t(kEscaped[kEscapes.find(kind)]), 2};
    const auto scalar = unicode_escape(text_, at_ + 2);
    return {scalar->value, scalar->bytes + 2};
  }

  std::string_view text_;
  size_t at_;
};

/// Behind the quote that ends the text which begins at `at`.
size_t end_of_text(std::string_view text, size_t at) {
  for (++at; text[at] != '"'; ++at)
    if (text[at] == '\\') ++at;
  return at + 1;
}

/// Behind the bracket that ends the object or array which begins at `at`.
size_t end_of_group(std::string_view text, size_t at) {
  int depth = 0;
  do {
    const char c = text[at];
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    at = c == '"' ? end_of_text(text, at) : at + 1;
  } while (depth > 0);
  return at;
}

/// Goes through a text once, by the grammar of RFC 8259.
class Checker {
 public:
  Checker(std::string_view text, int max_depth, const JsonPlace& place)
      : text_(text), max_depth_(max_depth), place_(place) {}

  void check() {
    if (text_.size() > UINT32_MAX) refuse(format_message("{} bytes of JSON", text_.size()), 0);
    value();
    if (at_ < text_.size()) refuse_here();
  }

 private:
  [[noreturn]] void refuse(const std::string& complaint, size_t at) const {
    throw CheckpointError(format_message("[{}] {}: {} (byte {} of the file); copy the file again", place_.file,
                                         place_.field, complaint, place_.first_byte + at));
  }
  [[noreturn]] void refuse_here() const { refuse("no JSON", at_); }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void expect(char c) {
    if (peek() != c || at_ == text_.size()) refuse_here();
    ++at_;
  }
  void spaces() { at_ = skip_spaces(text_, at_); }

  /// A value and the spaces around it.
  void value() {
    spaces();
    switch (peek()) {
      case '{':
        group('}', [&] { member(); });
        break;
      case '[':
        group(']', [&] { value(); });
        break;
      case '"':
        string();
        break;
      case 't':
        word("true");
        break;
      case 'f':
        word("false");
        break;
      case 'n':
        word("null");
        break;
      default:
        number();
    }
    spaces();
  }

  template <class Item> void group(char close, const Item& item) {
    if (++depth_ > max_depth_) refuse(format_message("nested deeper than {} levels", max_depth_), at_);
    const size_t first_key = keys_.size();
    ++at_;
    spaces();
    if (peek() != close) item();
    while (peek() == ',') {
      ++at_;
      item();
    }
    expect(close);
    check_distinct(first_key);
    --depth_;
  }

  void member() {
    spaces();
    keys_.push_back(uint32_t(at_));
    string();
    spaces();
    expect(':');
    value();
  }

  void word(std::string_view letters) {
    for (const char c : letters) expect(c);
  }

  void string() {
    for (expect('"'); peek() != '"'; at_ += character_bytes()) {
    }
    ++at_;
  }

  /// Of the character here, or of the escape that stands for it.
  size_t character_bytes() const {
    if (at_ == text_.size() || uint8_t(text_[at_]) < 0x20) refuse_here();
    if (text_[at_] != '\\') {
      const size_t bytes = read_utf8(text_, at_).bytes;
      return bytes > 0 ? bytes : (refuse("not UTF-8", at_), 0);
    }
    const char kind = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    if (kEscapes.find(kind) != kEscapes.npos) return 2;
    const auto scalar = kind == 'u' ? unicode_escape(text_, at_ + 2) : std::nullopt;
    if (!scalar) refuse("no escape of JSON", at_);
    return 2 + scalar->bytes;
  }

  void digits() {
    if (!is_digit(peek())) refuse_here();
    while (is_digit(peek())) ++at_;
  }

  void number() {
    const size_t begin = at_;
    if (peek() == '-') ++at_;
    if (peek() == '0')
      ++at_;
    else
      digits();
    if (peek() == '.') ++at_, digits();
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    double ignored;
    if (std::from_chars(text_.data() + begin, text_.data() + at_, ignored).ec != std::errc())
      refuse("a number that f64 cannot hold", begin);
  }

  /// That no two keys from this one on are equal, which are those of the object that ends here; forgets them.
  void check_distinct(size_t first_key) {
    const auto first = keys_.begin() + int64_t(first_key);
    std::sort(first, keys_.end(), [&](uint32_t a, uint32_t b) {
      const auto order = JsonView(text_, a).compare_text(JsonView(text_, b));
      return order < 0 || (order == 0 && a < b);
    });
    const auto twice = std::adjacent_find(first, keys_.end(), [&](uint32_t a, uint32_t b) {
      return JsonView(text_, a).compare_text(JsonView(text_, b)) == 0;
    });
    if (twice != keys_.end()) refuse("key " + JsonView(text_, *twice).shown() + " occurs twice", *(twice + 1));
    keys_.resize(first_key);
  }

  std::string_view text_;
  int max_depth_, depth_ = 0;
  const JsonPlace& place_;
  size_t at_ = 0;
  std::deque<uint32_t> keys_;  // where the keys of open objects begin
};

}  // namespace

JsonView::JsonView(std::string_view text, size_t at) : text_(text), at_(skip_spaces(text, at)) {}

size_t JsonView::end() const {
  if (is_text()) return end_of_text(text_, at_);
  if (is_object() || is_array()) return end_of_group(text_, at_);
  return std::min(text_.find_first_of(" \t\n\r,]}", at_), text_.size());
}

size_t JsonView::first() const {
  const size_t at = skip_spaces(text_, at_ + 1);
  return text_[at] == ']' || text_[at] == '}' ? 0 : at;
}

size_t JsonView::behind(size_t value_end) const {
  const size_t at = skip_spaces(text_, value_end);
  return text_[at] == ']' || text_[at] == '}' ? 0 : skip_spaces(text_, at + 1);
}

std::string JsonView::compact() const {
  const std::string_view all = raw();
  std::string text;
  text.reserve(all.size());
  for (size_t at = 0; at < all.size();) {
    const size_t next = all[at] == '"' ? end_of_text(all, at) : at + 1;
    if (!is_space(all[at])) text += all.substr(at, next - at);
    at = next;
  }
  return text;
}

std::string JsonView::shown() const {
  std::string text = shortened(raw(), kShown);
  std::ranges::replace_if(text, is_space, ' ');
  return text;
}

std::string JsonView::text() const {
  std::string text;
  text.reserve(raw().size());
  Characters characters(text_, at_);
  while (const auto character = characters.next()) append_utf8(text, *character);
  return text;
}

bool JsonView::is_text(std::string_view other) const {
  constexpr size_t kLongestEscape = 6;  // of a character that is one byte
  return is_text() && raw().size() <= kLongestEscape * other.size() + 2 && text() == other;
}

std::strong_ordering JsonView::compare_text(const JsonView& other) const {
  Characters ours(text_, at_), theirs(other.text_, other.at_);
  for (;;) {
    const auto a = ours.next(), b = theirs.next();
    if (a != b) return a <=> b;
    if (!a) return std::strong_ordering::equal;
  }
}

std::optional<uint64_t> JsonView::whole() const {
  const std::string_view digits = raw();
  uint64_t value = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && stop == digits.data() + digits.size() ? std::optional(value) : std::nullopt;
}

std::optional<JsonView> JsonView::find(std::string_view key) const {
  for (size_t next = is_object() ? first() : 0; next != 0;) {
    const JsonView name(text_, next), value(text_, behind(name.end()));
    if (name.is_text(key)) return value;
    next = behind(value.end());
  }
  return {};
}

JsonView check_json(std::string_view text, int max_depth, const JsonPlace& place) {
  Checker(text, max_depth, place).check();
  return JsonView(text);
}

}  // namespace libtrain
