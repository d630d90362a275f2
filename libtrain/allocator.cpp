#include "libtrain/allocator.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace libtrain {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int kNaNByte = 0xFF;  // four or eight of them are a NaN, in i32 they are -1
constexpr int kGuardByte = 0xA5;

int64_t round_size(int64_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const int64_t step = int64_t(std::bit_floor(uint64_t(bytes))) / 8;
  const int64_t unit = step > kAlignment ? step : kAlignment;
  return (bytes + unit - 1) / unit * unit;
}

class CpuAllocator {
 public:
  std::shared_ptr<std::byte> allocate(int64_t bytes) {
    std::lock_guard lock(mutex_);
    std::byte* data = guards_ ? guarded_block(bytes) : cached_block(round_size(bytes));
    ++stats_.allocations;
    stats_.bytes_in_use += bytes;
    stats_.peak_bytes_in_use = std::max(stats_.peak_bytes_in_use, stats_.bytes_in_use);
    const bool guarded = guards_;
    return {data, [this, bytes, guarded](std::byte* block) { give_back(block, bytes, guarded); }};
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
  void set_guards(bool on) {
    std::lock_guard lock(mutex_);
    guards_ = on;
  }

 private:
  std::byte* cached_block(int64_t size) {
    auto& list = free_[size];
    if (list.empty()) return system_block(size);
    std::byte* block = list.back();
    list.pop_back();
    stats_.bytes_cached -= size;
    return block;
  }

  std::byte* guarded_block(int64_t bytes) {
    std::byte* block = system_block(round_size(bytes) + 2 * kAlignment);
    std::memset(block, kGuardByte, size_t(round_size(bytes) + 2 * kAlignment));
    std::memset(block + kAlignment, kNaNByte, size_t(bytes));
    return block + kAlignment;
  }

  std::byte* system_block(int64_t size) {
    void* block = std::aligned_alloc(size_t(kAlignment), size_t(size));
    if (!block) {
      release_cached_locked();
      block = std::aligned_alloc(size_t(kAlignment), size_t(size));
    }
    if (!block)
      throw OutOfMemory(
          format_message("[allocator] cpu memory: asked for {} bytes with {} in use and none cached; "
                         "use smaller batches or more gradient accumulation",
                         size, stats_.bytes_in_use));
    ++stats_.system_allocations;
    return static_cast<std::byte*>(block);
  }

  void give_back(std::byte* block, int64_t bytes, bool guarded) {
    std::lock_guard lock(mutex_);
    stats_.bytes_in_use -= bytes;
    if (guarded) return check_and_free(block, bytes);
#ifndef NDEBUG
    std::memset(block, kNaNByte, size_t(bytes));
#endif
    stats_.bytes_cached += round_size(bytes);
    free_[round_size(bytes)].push_back(block);
  }

  void check_and_free(std::byte* block, int64_t bytes) {
    const std::byte* end = block + round_size(bytes) + kAlignment;
    bool intact = true;
    for (const std::byte* p = block - kAlignment; p < block; ++p) intact &= *p == std::byte(kGuardByte);
    for (const std::byte* p = block + bytes; p < end; ++p) intact &= *p == std::byte(kGuardByte);
    stats_.guard_violations += !intact;
    std::free(block - kAlignment);
  }

  void release_cached_locked() {
    for (auto& [size, list] : free_) {
      for (std::byte* block : list) std::free(block);
      list.clear();
    }
    stats_.bytes_cached = 0;
  }

  std::mutex mutex_;
  std::unordered_map<int64_t, std::vector<std::byte*>> free_;
  AllocatorStats stats_;
  bool guards_ = false;
};

// Never destroyed: tensors with static lifetime may outlive any order of destruction.
CpuAllocator& cpu_allocator() {
  static CpuAllocator& allocator = *new CpuAllocator;
  return allocator;
}

CpuAllocator& allocator_of(Device device) {
  if (device == Device::kCuda)
    throw DeviceError("[allocator] this build has no CUDA; configure with -DLIBTRAIN_CUDA=ON");
  return cpu_allocator();
}

}  // namespace

std::shared_ptr<std::byte> allocate(Device device, int64_t bytes) { return allocator_of(device).allocate(bytes); }
AllocatorStats allocator_stats(Device device) { return allocator_of(device).stats(); }
void reset_peak(Device device) { allocator_of(device).reset_peak(); }
void release_cached(Device device) { allocator_of(device).release_cached(); }
void set_allocator_guards(bool on) { cpu_allocator().set_guards(on); }

}  // namespace libtrain
