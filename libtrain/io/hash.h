#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace libtrain {

/// The 128-bit XXH3 hash of `bytes` as 32 hexadecimal digits: finds damage, not forgery.
std::string xxh3_128_hex(std::span<const std::byte> bytes);

}  // namespace libtrain
