// Blocks are filled with 0xFF (NaN in every float type) when they are allocated and when they are freed. Freed ones are
// kept out of use for a while, so that a late access meets NaN, or the checker, and not somebody else's data.
#include "kernels/cuda_on_cpu/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <new>

#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/settings.h"
#include "kernels/failure.h"

namespace libtrain::kernels::executor {
namespace {

constexpr size_t kAlignment = 256, kRedZone = 256;
constexpr size_t kGranule = 16;  // of the table of what is live: how many of the granule's bytes are
constexpr size_t kQuarantine = size_t(64) << 20;

struct Blocks {
  std::map<size_t, size_t> live;  // offset -> bytes asked for
  std::map<size_t, size_t> dead;  // the same of those in quarantine
  std::deque<size_t> quarantine;  // offsets, oldest first
  size_t quarantined = 0;
  std::map<size_t, size_t> gaps;  // offset -> bytes, neighbours joined; below `top`
  size_t top = 0;                 // nothing was ever allocated from here on
  int64_t live_bytes = 0;
};
Blocks blocks;
std::map<uintptr_t, size_t> pinned;

void* reserve(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

unsigned char* liveness() {
  static auto* const table = static_cast<unsigned char*>(reserve(kArenaBytes / kGranule));
  return table;
}

void set_live(size_t offset, size_t bytes, bool live) {
  unsigned char* granule = liveness() + offset / kGranule;
  std::memset(granule, live ? int(kGranule) : 0, bytes / kGranule);
  if (bytes % kGranule) granule[bytes / kGranule] = live ? (unsigned char)(bytes % kGranule) : 0;
}

/// What a block takes up: its bytes and the red zone behind them.
size_t extent(size_t bytes) { return (bytes + kRedZone + kAlignment - 1) / kAlignment * kAlignment; }

void add_gap(size_t offset, size_t bytes) {
  auto next = blocks.gaps.lower_bound(offset);
  if (next != blocks.gaps.end() && offset + bytes == next->first) {
    bytes += next->second;
    next = blocks.gaps.erase(next);
  }
  if (next != blocks.gaps.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  blocks.gaps.emplace(offset, bytes);
}

void end_quarantine_of_oldest() {
  const size_t offset = blocks.quarantine.front(), bytes = blocks.dead.at(offset);
  blocks.quarantine.pop_front();
  blocks.dead.erase(offset);
  blocks.quarantined -= extent(bytes);
  add_gap(offset, extent(bytes));
}

/// The first gap that is large enough, or the room behind everything; kArenaBytes if there is none.
size_t find_room(size_t wanted) {
  for (auto gap = blocks.gaps.begin(); gap != blocks.gaps.end(); ++gap) {
    const auto [offset, bytes] = *gap;
    if (bytes < wanted) continue;
    blocks.gaps.erase(gap);
    if (bytes > wanted) blocks.gaps.emplace(offset + wanted, bytes - wanted);
    return offset;
  }
  const size_t first = blocks.top == 0 ? kRedZone : blocks.top;
  if (wanted > kArenaBytes - first) return kArenaBytes;
  blocks.top = first + wanted;
  return first;
}

/// The last entry that begins at or before the key.
template <class Map> auto at_or_before(Map& map, typename Map::key_type key) {
  auto next = map.upper_bound(key);
  return next == map.begin() ? map.end() : std::prev(next);
}

[[noreturn]] void fail_range(const char* what, const void* begin, size_t bytes, const std::string& where) {
  throw Failure(text("[", what, "] ", bytes, " bytes from ", begin, " on are not within one live block: ", where));
}

bool within(const std::map<size_t, size_t>& map, size_t offset, size_t bytes) {
  const auto block = at_or_before(map, offset);
  return block != map.end() && offset - block->first <= block->second &&
         bytes <= block->second - (offset - block->first);
}

}  // namespace

unsigned char* arena() {
  static auto* const begin = static_cast<unsigned char*>(reserve(kArenaBytes));
  return begin;
}

bool is_live(size_t offset, size_t bytes) {
  const unsigned char* granule = liveness() + offset / kGranule;
  for (size_t end = offset % kGranule + bytes;; ++granule, end -= kGranule) {
    if (*granule < std::min(end, kGranule)) return false;
    if (end <= kGranule) return true;
  }
}

std::string describe(const void* address) {
  const size_t offset = arena_offset(address);
  const auto live = at_or_before(blocks.live, offset), dead = at_or_before(blocks.dead, offset);
  if (dead != blocks.dead.end() && offset - dead->first < dead->second)
    return text("byte ", offset - dead->first, " of a freed block of ", dead->second, " bytes");
  if (live == blocks.live.end()) return text("device memory at ", address, ", where no block is");
  const size_t inside = offset - live->first;
  if (inside < live->second) return text("byte ", inside, " of a block of ", live->second, " bytes");
  return text(inside - live->second, " bytes behind the end of a block of ", live->second, " bytes");
}

Place place_of(const void* begin, size_t bytes, const char* what) {
  const size_t offset = arena_offset(begin);
  if (offset < kArenaBytes) {
    if (!within(blocks.live, offset, bytes)) fail_range(what, begin, bytes, describe(begin));
    return Place::device;
  }
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const auto block = at_or_before(pinned, address);
  if (block == pinned.end() || address - block->first >= block->second) return Place::host;
  if (bytes > block->second - (address - block->first))
    fail_range(what, begin, bytes, text("a pinned block of ", block->second, " bytes"));
  return Place::pinned;
}

void* allocate_block(int64_t bytes) {
  const size_t wanted = std::max<size_t>(size_t(bytes), 1);
  if (bytes < 0 || blocks.live_bytes + bytes > memory_limit()) return nullptr;
  size_t offset = find_room(extent(wanted));
  while (offset == kArenaBytes && !blocks.quarantine.empty()) {
    end_quarantine_of_oldest();
    offset = find_room(extent(wanted));
  }
  if (offset == kArenaBytes) return nullptr;
  std::memset(arena() + offset, 0xFF, extent(wanted));
  set_live(offset, wanted, true);
  blocks.live.emplace(offset, wanted);
  blocks.live_bytes += int64_t(wanted);
  return arena() + offset;
}

bool free_block(void* block) {
  const auto found = blocks.live.find(arena_offset(block));
  if (found == blocks.live.end()) return false;
  const auto [offset, bytes] = *found;
  std::memset(block, 0xFF, bytes);
  set_live(offset, bytes, false);
  blocks.live.erase(found);
  blocks.live_bytes -= int64_t(bytes);
  blocks.dead.emplace(offset, bytes);
  blocks.quarantine.push_back(offset);
  blocks.quarantined += extent(bytes);
  while (blocks.quarantined > kQuarantine) end_quarantine_of_oldest();
  return true;
}

int64_t live_bytes() { return blocks.live_bytes; }

void* allocate_pinned_block(int64_t bytes) {
  const size_t wanted = std::max<size_t>(size_t(bytes), 1);
  void* block = bytes < 0 ? nullptr : std::aligned_alloc(kAlignment, extent(wanted));
  if (!block) return nullptr;
  std::memset(block, 0xFF, extent(wanted));
  pinned.emplace(reinterpret_cast<uintptr_t>(block), wanted);
  return block;
}

bool free_pinned_block(void* block) {
  const auto found = pinned.find(reinterpret_cast<uintptr_t>(block));
  if (found == pinned.end()) return false;
  std::memset(block, 0xFF, found->second);
  std::free(block);
  pinned.erase(found);
  return true;
}

}  // namespace libtrain::kernels::executor
