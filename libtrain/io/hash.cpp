#include "libtrain/io/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "libtrain/error.h"

namespace libtrain {

std::string xxh3_128_hex(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return format_message("{:016x}{:016x}", uint64_t(hash.high64), uint64_t(hash.low64));
}

}  // namespace libtrain
