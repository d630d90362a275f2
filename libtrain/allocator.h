/// Memory for tensors: caching, counted, and able to prove that nobody writes outside what was asked for.
///
/// Policy. Sizes are rounded up to one of eight steps per power of two (at least 256 bytes). A freed block goes back to the free
/// list of its size and is handed out again, so a training step that repeats its shapes asks the system for nothing. Blocks are
/// aligned to 256 bytes. Debug builds fill freed blocks on the CPU with NaN. All functions may be called from any thread.
///
/// On a CUDA device every stream has free lists of its own: a block is used on the stream that was current when it was made, and may go
/// back while its last kernels are still under way. Let go under another stream, it waits there for what that stream was given before.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "libtrain/device.h"

namespace libtrain {

/// What memory is for, as statistics and messages tell it. While a Tape or NoTape lives its thread allocates activations (what operations
/// make, keep for backward and need as workspace); Parameters and batches name their own.
enum class MemoryUse { kOther, kWeights, kGradients, kOptimizer, kActivations, kBatches };
constexpr int kMemoryUses = 6;    // values of MemoryUse
const char* name(MemoryUse use);  // "weights"…

/// While it lives, blocks that this thread allocates are for `use`. Scopes nest.
class MemoryUseScope {
 public:
  /// From now until destruction, on this thread.
  explicit MemoryUseScope(MemoryUse use);
  ~MemoryUseScope();
  MemoryUseScope(const MemoryUseScope&) = delete;
  MemoryUseScope& operator=(const MemoryUseScope&) = delete;

 private:
  MemoryUse outer_;
};

/// The blocks of one device, of all threads and streams together. Pinned memory is not counted; nor is rounding up, but in bytes_cached.
struct AllocatorStats {
  int64_t bytes_in_use = 0;        // asked for by blocks that are alive
  int64_t peak_bytes_in_use = 0;   // since start or reset_peak
  int64_t bytes_cached = 0;        // held in free lists
  int64_t allocations = 0;         // blocks handed out, ever
  int64_t system_allocations = 0;  // those of them that had to ask the system
  int64_t guard_violations = 0;    // blocks found damaged outside their bounds when freed (guard mode only)
  std::array<int64_t, kMemoryUses> bytes_by_use{};  // bytes_in_use by MemoryUse

  /// The part of bytes_in_use that is for `use`.
  int64_t bytes_for(MemoryUse use) const { return bytes_by_use[size_t(use)]; }
};

/// A block of at least `bytes` bytes that returns to the cache when the last owner lets go. Contents are undefined.
/// Throws OutOfMemory naming the bytes asked for and what for, and those in use by what, after giving cached blocks back to the system and trying again.
std::shared_ptr<std::byte> allocate(Device device, int64_t bytes);

/// Likewise, of host memory that the CUDA device reaches by itself: copies between the two neither wait nor block. It is handed out again
/// only when what this thread's stream was given before the last owner let go is done.
std::shared_ptr<std::byte> allocate_pinned(int64_t bytes);

/// Memory of the CUDA device that captured work goes on using after it was let go: kept apart from all other, and until the end.
class MemoryPool {
 public:
  MemoryPool();
  /// Gives back to the system what the pool has got; blocks that are still alive follow when they are let go.
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  /// Those of captured work (kernels/view.h), which last as long as its graphs: kTickets, and as many again for a second stream, which may be
  /// gone by then.
  unsigned* tickets() const { return tickets_; }

 private:
  friend class MemoryPoolScope;
  unsigned* tickets_;
  const char side_ = 0;  // whose address stands for the memory of the second stream, as that of the pool for the rest
};

/// While it lives, this thread's blocks of the CUDA device come from `pool`, in the order of captured work: nobody waits for anything. What is
/// captured of a second stream (TrainOptions::weight_gradient_stream) has blocks of its own in it.
class MemoryPoolScope {
 public:
  /// From now until destruction, on this thread. Scopes do not nest.
  explicit MemoryPoolScope(const MemoryPool& pool);
  ~MemoryPoolScope();
  MemoryPoolScope(const MemoryPoolScope&) = delete;
};

/// As things stand now.
AllocatorStats allocator_stats(Device device);
/// Starts a new measurement of peak_bytes_in_use.
void reset_peak(Device device);
/// Gives all cached blocks back to the system.
void release_cached(Device device);

/// While on, for both devices: every block bypasses the cache, starts filled with NaN, and stands between guard words that are checked when
/// it is freed. For tests; slow.
void set_allocator_guards(bool on);

/// For tests: of the allocations to come, of all threads and devices together, number `first` (the next one is 0) and `count` - 1 behind it throw
/// OutOfMemory, as if nothing were left. count 0, and so how it is at the start: none. Returns whether any has failed since the last call.
bool fail_allocations(int64_t first, int64_t count);

/// Copies `bytes` between any two devices. The source may be changed at once; what this thread's stream is given from now on sees the
/// copy. A copy to the CPU has arrived on return.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes);
/// Enqueues a copy from the CUDA device to pinned memory and does not wait: it has arrived when an event recorded behind it is reached.
void read_later(void* pinned, const void* from, size_t bytes);
/// Zero bits in `bytes` bytes of `device`, in the same order.
void clear_bytes(void* to, Device device, size_t bytes);

}  // namespace libtrain
