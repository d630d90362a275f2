/// Where the allocator's blocks come from, and in which order they may be used again: one source for each kind of memory. Part of
/// allocator.cpp, not of what programs use.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "libtrain/device.h"

namespace libtrain::detail {

constexpr int64_t kAlignment = 256;  // of blocks, in bytes
constexpr int kNaNByte = 0xFF;       // four or eight of them are a NaN, in i32 they are -1

/// A kind of memory.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual const char* name() const = 0;
  virtual void* allocate(int64_t bytes) = 0;  // nullptr: not so much is left
  virtual void free(void* block) noexcept = 0;
  virtual void fill(void* to, int byte, int64_t bytes) = 0;
  virtual void read(void* to, const void* from, int64_t bytes) = 0;  // to host memory
  /// Fills a block that was let go, so that a forgotten owner shows.
  virtual void poison(void* block, int64_t bytes) { fill(block, kNaNByte, bytes); }
  /// Free lists are apart by this: who may use a block without waiting.
  virtual const void* queue() const { return nullptr; }
  /// Whether no mark can be left now by a block of `queue`, since the stream is being captured.
  virtual bool must_leave_later(const void*) const { return false; }
  /// A mark that a block of `queue` leaves when it is let go, or nullptr if it may be used at once.
  virtual void* leave(const void*) { return nullptr; }
  /// Whether a block with this mark may be used now; afterwards the mark is gone.
  virtual bool enter(void*) { return true; }
  /// What to tell when there is none left: what there is, if that is known, and `remedy`.
  virtual std::string hint(const std::string& remedy) const { return remedy; }
};

std::unique_ptr<MemorySource> cpu_memory();
std::unique_ptr<MemorySource> device_memory();
std::unique_ptr<MemorySource> pinned_memory();

/// Bytes of `device` that nobody has: see host_memory.h for the CPU; of a CUDA device what its runtime says, all processes counted.
int64_t free_memory(Device device);

/// The queues of the pool of this thread's MemoryPoolScope, or nullptr: for the captured stream, and for the second one (side_stream.h).
struct PoolQueues {
  const void *captured = nullptr, *side = nullptr;
};
PoolQueues& active_pool();

/// "1234 bytes", "12345678 bytes (11.8 MiB)"
std::string readable(int64_t bytes);

}  // namespace libtrain::detail
