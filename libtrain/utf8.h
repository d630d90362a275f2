/// Checks of UTF-8, for every reader of text.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace libtrain {

/// One Unicode scalar value and the bytes that encode it.
struct Utf8Scalar {
  char32_t value;  // below 0x110000, no surrogate
  size_t bytes;    // 1 to 4; 0: ill-formed, with no value
};

/// The scalar value that begins at byte `at`, which must be within `text`. Overlong forms, surrogates, values above U+10FFFF and sequences cut
/// short are ill-formed (The Unicode Standard, table 3-7).
Utf8Scalar read_utf8(std::string_view text, size_t at);

/// The offset in bytes at which the first ill-formed UTF-8 sequence of `text` begins; nothing when all of it is well formed.
std::optional<size_t> find_invalid_utf8(std::string_view text);

/// Appends the scalar value `value`, which must be one.
void append_utf8(std::string& text, char32_t value);

/// The beginning of `text`, at most so many bytes of it without cutting a character, with "…" where something was left out.
std::string shortened(std::string_view text, size_t most);

}  // namespace libtrain
