#include "libtrain/allocator.h"

#include <atomic>
#include <bit>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "libtrain/memory_source.h"
#include "libtrain/tickets.h"

namespace libtrain {
namespace {

namespace runtime = kernels::runtime;
using namespace detail;

constexpr int kGuardByte = 0xA5;

int64_t round_size(int64_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const int64_t step = int64_t(std::bit_floor(uint64_t(bytes))) / 8;
  const int64_t unit = step > kAlignment ? step : kAlignment;
  return (bytes + unit - 1) / unit * unit;
}

thread_local MemoryUse current_use = MemoryUse::kOther;

/// fail_allocations(): allocations left before the first that fails, and before the first behind it that succeeds again; negative once past.
std::atomic<int64_t> until_failure = -1, until_recovery = -1;

bool must_fail() { return until_recovery > 0 && --until_recovery >= 0 && --until_failure < 0; }

/// "3.5 MiB: 1.0 MiB of weights, 2.5 MiB of activations".
std::string in_use(const AllocatorStats& stats) {
  std::string text = readable(stats.bytes_in_use);
  const char* separator = ": ";
  for (int use = 0; use < kMemoryUses; ++use) {
    if (!stats.bytes_by_use[size_t(use)]) continue;
    text += separator + readable(stats.bytes_by_use[size_t(use)]) + " of " + name(MemoryUse(use));
    separator = ", ";
  }
  return text;
}

class Allocator {
 public:
  explicit Allocator(std::unique_ptr<MemorySource> source) : source_(std::move(source)) {}

  std::shared_ptr<std::byte> allocate(int64_t bytes) {
    std::unique_lock lock(mutex_);
    if (must_fail()) throw_out_of_memory(round_size(bytes));
    const bool guarded = guards_;
    const void* const queue = source_->queue();
    std::byte* data = guarded ? guarded_block(bytes) : cached_block(queue, round_size(bytes));
    const MemoryUse use = current_use;
    ++stats_.allocations;
    count(bytes, use);
    stats_.peak_bytes_in_use = std::max(stats_.peak_bytes_in_use, stats_.bytes_in_use);
    lock.unlock();  // without memory for an owner the block goes back at once
    return {data,
            [this, bytes, use, queue, guarded](std::byte* block) { give_back(block, bytes, use, queue, guarded); }};
  }

  AllocatorStats stats() {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    std::lock_guard lock(mutex_);
    stats_.peak_bytes_in_use = stats_.bytes_in_use;
  }
  void release_cached() {
    std::lock_guard lock(mutex_);
    release_cached_locked();
  }
  /// What this thread could not let go while it was capturing into `pool`. Other threads may still be, into theirs.
  void let_go_later(const PoolQueues& pool) noexcept {
    std::lock_guard lock(mutex_);
    std::erase_if(leaving_, [&](const LeavingBlock& block) {
      if (block.pool != pool.captured) return false;
      try {
        let_go(block.data, block.bytes, block.queue);
      } catch (const std::exception&) {
        // As in give_back.
      }
      return true;
    });
  }
  void open_pool(const PoolQueues& pool) {
    std::lock_guard lock(mutex_);
    pools_.insert({pool.captured, pool.side});
  }
  void close_pool(const PoolQueues& pool) noexcept {
    std::lock_guard lock(mutex_);
    pools_.erase(pool.captured);
    pools_.erase(pool.side);
    for (auto& [key, list] : free_)
      if (key.first == pool.captured || key.first == pool.side) release(key.second, list);
  }
  void set_guards(bool on) {
    std::lock_guard lock(mutex_);
    guards_ = on;
  }

 private:
  struct FreeBlock {
    std::byte* data;
    void* mark;
  };
  struct LeavingBlock {
    std::byte* data;
    int64_t bytes;
    const void *queue, *pool;
  };

  void count(int64_t bytes, MemoryUse use) {
    stats_.bytes_in_use += bytes;
    stats_.bytes_by_use[size_t(use)] += bytes;
  }

  std::byte* cached_block(const void* queue, int64_t size) {
    std::vector<FreeBlock>& list = free_[{queue, size}];
    for (size_t i = list.size(); i-- > 0;) {
      if (list[i].mark && !source_->enter(list[i].mark)) continue;
      std::byte* block = list[i].data;
      list.erase(list.begin() + int64_t(i));
      stats_.bytes_cached -= size;
      return block;
    }
    return system_block(size);
  }

  std::byte* guarded_block(int64_t bytes) {
    std::byte* block = system_block(round_size(bytes) + 2 * kAlignment);
    source_->fill(block, kGuardByte, round_size(bytes) + 2 * kAlignment);
    source_->fill(block + kAlignment, kNaNByte, bytes);
    return block + kAlignment;
  }

  std::byte* system_block(int64_t size) {
    void* block = source_->allocate(size);
    if (!block) {
      release_cached_locked();
      block = source_->allocate(size);
    }
    if (!block) throw_out_of_memory(size);
    ++stats_.system_allocations;
    return static_cast<std::byte*>(block);
  }

  /// Weights and what belongs to each of them do not depend on batches.
  static const char* remedy() {
    switch (current_use) {
      case MemoryUse::kWeights:
      case MemoryUse::kGradients:
      case MemoryUse::kOptimizer:
        return "use a smaller model";
      default:
        return "use smaller batches or more gradient accumulation";
    }
  }

  [[noreturn]] void throw_out_of_memory(int64_t size) const {
    throw OutOfMemory(format_message("[allocator] {} memory: asked for {} of {} with none cached and in use {}; {}",
                                     source_->name(), readable(size), libtrain::name(current_use), in_use(stats_),
                                     source_->hint(remedy())));
  }

  void give_back(std::byte* block, int64_t bytes, MemoryUse use, const void* queue, bool guarded) noexcept {
    std::lock_guard lock(mutex_);
    count(-bytes, use);
    try {
      if (guarded) return check_and_free(block, bytes);
      if (source_->must_leave_later(queue)) return leaving_.push_back({block, bytes, queue, active_pool().captured});
      let_go(block, bytes, queue);
    } catch (const std::bad_alloc&) {
      source_->free(guarded ? block - kAlignment : block);  // no room to remember it
    } catch (const std::exception&) {
      // The device has failed: who waits for it next is told. The block may be in use, so nobody gets it again.
    }
  }

  void let_go(std::byte* block, int64_t bytes, const void* queue) {
#ifndef NDEBUG
    source_->poison(block, bytes);
#endif
    const FreeBlock free{block, source_->leave(queue)};
    free_[{queue, round_size(bytes)}].push_back(free);
    stats_.bytes_cached += round_size(bytes);
  }

  void check_and_free(std::byte* block, int64_t bytes) {
    const int64_t behind = round_size(bytes) - bytes + kAlignment;
    std::vector<uint8_t> guards(size_t(kAlignment + behind));
    source_->read(guards.data(), block - kAlignment, kAlignment);
    source_->read(guards.data() + kAlignment, block + bytes, behind);
    for (const uint8_t byte : guards)
      if (byte != kGuardByte) {
        ++stats_.guard_violations;
        break;
      }
    source_->free(block - kAlignment);
  }

  void release_cached_locked() {
    for (auto& [key, list] : free_)
      if (!pools_.contains(key.first)) release(key.second, list);
  }

  void release(int64_t size, std::vector<FreeBlock>& list) {
    std::erase_if(list, [&](const FreeBlock& block) {
      if (block.mark && !may_enter(block.mark)) return false;
      source_->free(block.data);
      stats_.bytes_cached -= size;
      return true;
    });
  }

  bool may_enter(void* mark) noexcept try { return source_->enter(mark); } catch (const std::exception&) {
    return false;  // as in give_back
  }

  std::unique_ptr<MemorySource> source_;
  std::mutex mutex_;
  std::map<std::pair<const void*, int64_t>, std::vector<FreeBlock>> free_;  // by queue and size
  std::set<const void*> pools_;  // queues whose blocks captured work goes on using
  std::vector<LeavingBlock> leaving_;
  AllocatorStats stats_;
  bool guards_ = false;
};

// Never destroyed: tensors with static lifetime may outlive any order of destruction.
template <std::unique_ptr<MemorySource> (*source)()> Allocator& allocator_from() {
  static Allocator& allocator = *new Allocator(source());
  return allocator;
}

Allocator& allocator_of(Device device) {
  if (device == Device::kCpu) return allocator_from<cpu_memory>();
  if (!kBuiltWithCuda) throw_no_cuda();
  return allocator_from<device_memory>();
}

}  // namespace

const char* name(MemoryUse use) {
  constexpr const char* kNames[] = {"other tensors",   "weights",     "gradients",
                                    "optimizer state", "activations", "batches"};
  static_assert(std::size(kNames) == kMemoryUses);
  return kNames[int(use)];
}

MemoryUseScope::MemoryUseScope(MemoryUse use) : outer_(std::exchange(current_use, use)) {}
MemoryUseScope::~MemoryUseScope() { current_use = outer_; }

MemoryPool::MemoryPool() : tickets_(new_tickets()) { allocator_of(Device::kCuda).open_pool({this, &side_}); }
MemoryPool::~MemoryPool() {
  allocator_of(Device::kCuda).close_pool({this, &side_});
  if constexpr (kBuiltWithCuda) runtime::free_device(tickets_);
}
MemoryPoolScope::MemoryPoolScope(const MemoryPool& pool) {
  active_pool() = {&pool, &pool.side_};
  active_tickets() = pool.tickets();
}
MemoryPoolScope::~MemoryPoolScope() {
  const PoolQueues pool = std::exchange(active_pool(), {});
  active_tickets() = nullptr;
  allocator_of(Device::kCuda).let_go_later(pool);
  allocator_from<pinned_memory>().let_go_later(pool);
}

std::shared_ptr<std::byte> allocate(Device device, int64_t bytes) { return allocator_of(device).allocate(bytes); }
std::shared_ptr<std::byte> allocate_pinned(int64_t bytes) { return allocator_from<pinned_memory>().allocate(bytes); }
AllocatorStats allocator_stats(Device device) { return allocator_of(device).stats(); }
void reset_peak(Device device) { allocator_of(device).reset_peak(); }
void release_cached(Device device) { allocator_of(device).release_cached(); }
bool fail_allocations(int64_t first, int64_t count) {
  const bool failed = until_recovery >= 0 && until_failure < 0;
  until_failure = first;
  until_recovery = count > 0 ? first + count : -1;
  return failed;
}
void set_allocator_guards(bool on) {
  allocator_of(Device::kCpu).set_guards(on);
  if (kBuiltWithCuda) allocator_of(Device::kCuda).set_guards(on);
}

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  if (bytes == 0) return;
  if (to_device == Device::kCpu && from_device == Device::kCpu) {
    std::memmove(to, from, bytes);
    return;
  }
  if (active_pool().captured && to_device != from_device)
    throw DeviceError(
        "[graph] copies between host and device cannot be captured; make such tensors before, and change them there");
  std::shared_ptr<std::byte> staging;
  if (from_device == Device::kCpu) {
    staging = allocate_pinned(int64_t(bytes));
    std::memcpy(staging.get(), from, bytes);
    from = staging.get();
  }
  cuda_call([&] { runtime::copy(to, from, bytes, cuda::current_stream()); });
  if (to_device == Device::kCpu) cuda::synchronize();  // a copy to pinned memory does not wait by itself
}

void read_later(void* pinned, const void* from, size_t bytes) {
  cuda_call([&] { runtime::copy(pinned, from, bytes, cuda::current_stream()); });
}

void clear_bytes(void* to, Device device, size_t bytes) {
  if (device == Device::kCpu)
    std::memset(to, 0, bytes);
  else
    cuda_call([&] { runtime::fill_bytes(to, 0, bytes, cuda::current_stream()); });
}

}  // namespace libtrain
