#include "libtrain/allocator.h"

#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace libtrain {
namespace {

namespace runtime = kernels::runtime;

constexpr int64_t kAlignment = 256;
constexpr int kNaNByte = 0xFF;  // four or eight of them are a NaN, in i32 they are -1
constexpr int kGuardByte = 0xA5;

int64_t round_size(int64_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const int64_t step = int64_t(std::bit_floor(uint64_t(bytes))) / 8;
  const int64_t unit = step > kAlignment ? step : kAlignment;
  return (bytes + unit - 1) / unit * unit;
}

std::string readable(int64_t bytes) {
  return format_message(bytes < 10'000'000 ? "{} bytes" : "{} bytes ({:.1f} MiB)", bytes, double(bytes) * 0x1p-20);
}

thread_local MemoryUse current_use = MemoryUse::kOther;

/// fail_allocations(): allocations until the first that fails, and until the first behind it that does not. Below 0: past.
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

/// Where blocks come from and in which order they may be used again.
class Source {
 public:
  virtual ~Source() = default;
  virtual const char* name() const = 0;
  virtual void* allocate(int64_t bytes) = 0;  // nullptr: not so much is left
  virtual void free(void* block) noexcept = 0;
  virtual void fill(void* to, int byte, int64_t bytes) = 0;
  virtual void read(void* to, const void* from, int64_t bytes) = 0;  // to host memory
  /// Fills a block that was let go, so that a forgotten owner shows.
  virtual void poison(void* block, int64_t bytes) { fill(block, kNaNByte, bytes); }
  /// Free lists are apart by this: who may use a block without waiting.
  virtual void* queue() const { return nullptr; }
  /// A mark that a block of `queue` leaves when it is let go, or nullptr if it may be used at once.
  virtual void* leave(void*) { return nullptr; }
  /// Whether a block with this mark may be used now; afterwards the mark is gone.
  virtual bool enter(void*) { return true; }
  virtual std::string hint() const { return "use smaller batches or more gradient accumulation"; }
};

class CpuSource : public Source {
 public:
  const char* name() const override { return "cpu"; }
  void* allocate(int64_t bytes) override { return std::aligned_alloc(size_t(kAlignment), size_t(bytes)); }
  void free(void* block) noexcept override { std::free(block); }
  void fill(void* to, int byte, int64_t bytes) override { std::memset(to, byte, size_t(bytes)); }
  void read(void* to, const void* from, int64_t bytes) override { std::memcpy(to, from, size_t(bytes)); }
};

/// What device and pinned memory have in common: marks are events of the stream that a block was let go under.
class CudaSource : public Source {
 public:
  void fill(void* to, int byte, int64_t bytes) override {
    detail::cuda_call([&] { runtime::fill_bytes(to, byte, size_t(bytes), cuda::current_stream()); });
  }
  void read(void* to, const void* from, int64_t bytes) override {
    detail::cuda_call([&] { runtime::copy(to, from, size_t(bytes), cuda::current_stream()); });
  }

 protected:
  static void* mark_now() {
    return detail::cuda_call([] {
      const runtime::Event event = runtime::create_event();
      runtime::record(event, cuda::current_stream());
      return event.handle;
    });
  }
};

class DeviceSource final : public CudaSource {
 public:
  const char* name() const override { return "cuda"; }
  void* allocate(int64_t bytes) override {
    return detail::cuda_call([&] { return runtime::allocate_device(bytes); });
  }
  void free(void* block) noexcept override {
    if constexpr (kBuiltWithCuda) runtime::free_device(block);
  }
  void* queue() const override { return cuda::current_stream().stream; }
  void* leave(void* queue) override { return queue == this->queue() ? nullptr : mark_now(); }
  bool enter(void* mark) override {
    detail::cuda_call([&] {
      runtime::wait(cuda::current_stream(), {mark});
      runtime::destroy_event({mark});
    });
    return true;
  }
  std::string hint() const override {
    return detail::cuda_call([] {
      return format_message(
          "{} of the device's {} are free, all processes counted; use smaller batches or more "
          "gradient accumulation",
          readable(runtime::free_bytes()), readable(runtime::device_info().memory));
    });
  }
};

class PinnedSource final : public CudaSource {
 public:
  const char* name() const override { return "pinned"; }
  void* allocate(int64_t bytes) override {
    return detail::cuda_call([&] { return runtime::allocate_pinned(bytes); });
  }
  void free(void* block) noexcept override {
    if constexpr (kBuiltWithCuda) runtime::free_pinned(block);
  }
  void poison(void*, int64_t) override {}  // copies may still read it
  void* leave(void*) override { return mark_now(); }
  bool enter(void* mark) override {
    return detail::cuda_call([&] {
      if (!runtime::reached({mark})) return false;
      runtime::destroy_event({mark});
      return true;
    });
  }
};

class Allocator {
 public:
  explicit Allocator(std::unique_ptr<Source> source) : source_(std::move(source)) {}

  std::shared_ptr<std::byte> allocate(int64_t bytes) {
    std::unique_lock lock(mutex_);
    if (must_fail()) throw_out_of_memory(round_size(bytes));
    const bool guarded = guards_;
    void* const queue = source_->queue();
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
  void set_guards(bool on) {
    std::lock_guard lock(mutex_);
    guards_ = on;
  }

 private:
  struct FreeBlock {
    std::byte* data;
    void* mark;
  };

  void count(int64_t bytes, MemoryUse use) {
    stats_.bytes_in_use += bytes;
    stats_.bytes_by_use[size_t(use)] += bytes;
  }

  std::byte* cached_block(void* queue, int64_t size) {
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

  [[noreturn]] void throw_out_of_memory(int64_t size) const {
    throw OutOfMemory(format_message("[allocator] {} memory: asked for {} of {} with none cached and in use {}; {}",
                                     source_->name(), readable(size), libtrain::name(current_use), in_use(stats_),
                                     source_->hint()));
  }

  void give_back(std::byte* block, int64_t bytes, MemoryUse use, void* queue, bool guarded) noexcept {
    std::lock_guard lock(mutex_);
    count(-bytes, use);
    try {
      if (guarded) return check_and_free(block, bytes);
#ifndef NDEBUG
      source_->poison(block, bytes);
#endif
      const FreeBlock free{block, source_->leave(queue)};
      free_[{queue, round_size(bytes)}].push_back(free);
      stats_.bytes_cached += round_size(bytes);
    } catch (const std::bad_alloc&) {
      source_->free(guarded ? block - kAlignment : block);  // no room to remember it
    } catch (const std::exception&) {
      // The device has failed: who waits for it next is told. The block may be in use, so nobody gets it again.
    }
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
      std::erase_if(list, [&, size = key.second](const FreeBlock& block) {
        if (block.mark && !source_->enter(block.mark)) return false;
        source_->free(block.data);
        stats_.bytes_cached -= size;
        return true;
      });
  }

  std::unique_ptr<Source> source_;
  std::mutex mutex_;
  std::map<std::pair<void*, int64_t>, std::vector<FreeBlock>> free_;  // by queue and size
  AllocatorStats stats_;
  bool guards_ = false;
};

// Never destroyed: tensors with static lifetime may outlive any order of destruction.
template <class S> Allocator& allocator_from() {
  static Allocator& allocator = *new Allocator(std::make_unique<S>());
  return allocator;
}

Allocator& allocator_of(Device device) {
  if (device == Device::kCpu) return allocator_from<CpuSource>();
  if (!kBuiltWithCuda) detail::throw_no_cuda();
  return allocator_from<DeviceSource>();
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

std::shared_ptr<std::byte> allocate(Device device, int64_t bytes) { return allocator_of(device).allocate(bytes); }
std::shared_ptr<std::byte> allocate_pinned(int64_t bytes) { return allocator_from<PinnedSource>().allocate(bytes); }
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
  std::shared_ptr<std::byte> staging;
  if (from_device == Device::kCpu) {
    staging = allocate_pinned(int64_t(bytes));
    std::memcpy(staging.get(), from, bytes);
    from = staging.get();
  }
  detail::cuda_call([&] { runtime::copy(to, from, bytes, cuda::current_stream()); });
  if (to_device == Device::kCpu) cuda::synchronize();  // a copy to pinned memory does not wait by itself
}

void read_later(void* pinned, const void* from, size_t bytes) {
  detail::cuda_call([&] { runtime::copy(pinned, from, bytes, cuda::current_stream()); });
}

void clear_bytes(void* to, Device device, size_t bytes) {
  if (device == Device::kCpu)
    std::memset(to, 0, bytes);
  else
    detail::cuda_call([&] { runtime::fill_bytes(to, 0, bytes, cuda::current_stream()); });
}

}  // namespace libtrain
