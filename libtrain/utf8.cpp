#include "libtrain/utf8.h"

#include <cstdint>

namespace libtrain {
namespace {

constexpr Utf8Scalar kIllFormed = {0, 0};

// The bytes that a sequence starting with `lead` takes; 0 when none starts with it.
size_t sequence_bytes(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC0) return 0;
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  return lead < 0xF8 ? 4 : 0;
}

bool continues(char byte) { return (uint8_t(byte) & 0xC0) == 0x80; }

}  // namespace

Utf8Scalar read_utf8(std::string_view text, size_t at) {
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};  // below: overlong
  const uint8_t lead = uint8_t(text[at]);
  const size_t bytes = sequence_bytes(lead);
  if (bytes == 0 || at + bytes > text.size()) return kIllFormed;
  char32_t value = bytes == 1 ? lead : lead & (0x7F >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if (!continues(text[at + i])) return kIllFormed;
    value = value << 6 | (uint8_t(text[at + i]) & 0x3F);
  }
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kSmallest[bytes] || surrogate || value > 0x10FFFF) return kIllFormed;
  return {value, bytes};
}

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Scalar scalar = read_utf8(text, at);
    if (scalar.bytes == 0) return at;
    at += scalar.bytes;
  }
  return std::nullopt;
}

void append_utf8(std::string& text, char32_t value) {
  if (value < 0x80) return text.push_back(char(value));
  const int more = value < 0x800 ? 1 : value < 0x10000 ? 2 : 3;
  constexpr char32_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  text.push_back(char(kLead[more] | value >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) text.push_back(char(0x80 | (value >> (6 * i) & 0x3F)));
}

std::string shortened(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  while (most > 0 && continues(text[most])) --most;
  return std::string(text.substr(0, most)) + "…";
}

}  // namespace libtrain
