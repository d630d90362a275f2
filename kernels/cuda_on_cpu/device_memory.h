/// The device's memory: one reserved range of addresses, in which blocks stand apart from each other. All callers hold the mutex of
/// the runtime.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace libtrain::kernels::executor {

constexpr size_t kArenaBytes = size_t(4) << 30;

/// Where an address lies, as copies see it.
enum class Place : uint8_t { device, pinned, host };
/// Throws Failure if the range begins in device or pinned memory and does not lie in one live block of it.
Place place_of(const void* begin, size_t bytes, const char* what);

/// Begin of the arena, which is reserved at the first call.
unsigned char* arena();
/// Offset of the address within the arena; kArenaBytes or more outside.
inline size_t arena_offset(const void* address) { return size_t(static_cast<const unsigned char*>(address) - arena()); }
/// Whether all bytes of an access are in live blocks. `offset` is within the arena.
bool is_live(size_t offset, size_t bytes);
/// "byte 4 of a block of 100 bytes", "12 bytes behind a block of …", "byte 0 of a freed block of …".
std::string describe(const void* address);

/// nullptr when there is not so much.
void* allocate_block(int64_t bytes);
/// False for what is not the begin of a live block.
bool free_block(void* block);
int64_t live_bytes();

void* allocate_pinned_block(int64_t bytes);
bool free_pinned_block(void* block);

}  // namespace libtrain::kernels::executor
