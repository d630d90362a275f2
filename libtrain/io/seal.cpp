#include "libtrain/io/seal.h"

#include <span>

#include "libtrain/io/hash.h"

namespace libtrain {
namespace {

constexpr std::string_view kEnd = "\n}";

std::string seal_of(std::string_view body) {
  return ",\n \"xxh3_128\": \"" + xxh3_128_hex(std::as_bytes(std::span(body))) + "\"\n}\n";
}

}  // namespace

std::string sealed(std::string_view object) {
  const std::string_view body = object.substr(0, object.rfind(kEnd));
  return std::string(body) + seal_of(body);
}

bool is_sealed(std::string_view text) {
  static const size_t length = seal_of("").size();
  if (text.size() < length) return false;
  const std::string_view body = text.substr(0, text.size() - length);
  return text.substr(body.size()) == seal_of(body);
}

}  // namespace libtrain
