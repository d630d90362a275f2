/// JSON from files that anyone may have written: checked once as a whole, then read in place. Nothing is built from it: beside the text there are
/// four bytes for each key of an open object while it is checked, and nothing afterwards.
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "libtrain/error.h"

namespace libtrain {

/// Where a text stands, for messages: "[file] field: … (byte 8 of the file)".
struct JsonPlace {
  std::string file, field;  // a path, and the name of the part of the file that holds the text
  uint64_t first_byte = 0;  // of the text, counted from the start of the file
};

/// A value in a text that check_json() has accepted. A view: the text must outlive it.
class JsonView {
 public:
  /// The value that begins at offset `at` of `text`, or behind spaces there.
  explicit JsonView(std::string_view text, size_t at = 0);

  /// Where in the text its first character stands.
  size_t at() const { return at_; }
  /// As it is written.
  std::string_view raw() const { return text_.substr(at_, end() - at_); }
  /// As it is written, without the spaces outside of texts.
  std::string compact() const;
  /// As it is written, cut to be shown in a message.
  std::string shown() const;

  /// `{…}`
  bool is_object() const { return text_[at_] == '{'; }
  /// `[…]`
  bool is_array() const { return text_[at_] == '['; }
  /// `"…"`
  bool is_text() const { return text_[at_] == '"'; }
  /// The characters of a text, without quotes and escapes.
  std::string text() const;
  /// Whether it is the text `other`.
  bool is_text(std::string_view other) const;
  /// The order of two texts by their characters, which is also that of their bytes as UTF-8.
  std::strong_ordering compare_text(const JsonView& other) const;
  /// A number without sign, fraction and exponent, if it is below 2^64.
  std::optional<uint64_t> whole() const;

  /// Calls use(value) for each element of an array.
  template <class Use> void elements(const Use& use) const {
    for (size_t next = first(); next != 0;) {
      const JsonView value(text_, next);
      use(value);
      next = behind(value.end());
    }
  }
  /// Calls use(key, value) for each member of an object, both of them JsonView, in the order of the text.
  template <class Use> void members(const Use& use) const {
    for (size_t next = first(); next != 0;) {
      const JsonView key(text_, next), value(text_, behind(key.end()));
      use(key, value);
      next = behind(value.end());
    }
  }
  /// The value under a key of an object; nothing when there is none, or this is no object.
  std::optional<JsonView> find(std::string_view key) const;

 private:
  size_t end() const;                     // of the value
  size_t first() const;                   // where the first element or key begins, 0 if there is none
  size_t behind(size_t value_end) const;  // where the next element, key or value begins, 0 if that was the last

  std::string_view text_;
  size_t at_;
};

/// Throws CheckpointError naming file, field and byte unless `text`, of less than 2^32 bytes, is one JSON value (RFC 8259) with objects and arrays
/// nested at most `max_depth` deep, no key twice in an object, and no number beyond f64. A parser alone keeps the last of two equal keys without
/// a word, and code that walks a value by recursion ends with the stack.
JsonView check_json(std::string_view text, int max_depth, const JsonPlace& place);

}  // namespace libtrain
