#include "libtrain/memory_source.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/runtime.h"
#include "libtrain/cuda.h"
#include "libtrain/host_memory.h"
#include "libtrain/tickets.h"

namespace libtrain::detail {
namespace {

namespace runtime = kernels::runtime;

class CpuSource final : public MemorySource {
 public:
  const char* name() const override { return "cpu"; }
  void* allocate(int64_t bytes) override { return std::aligned_alloc(size_t(kAlignment), size_t(bytes)); }
  void free(void* block) noexcept override { std::free(block); }
  void fill(void* to, int byte, int64_t bytes) override { std::memset(to, byte, size_t(bytes)); }
  void read(void* to, const void* from, int64_t bytes) override { std::memcpy(to, from, size_t(bytes)); }
};

/// What device and pinned memory have in common: marks are events of the stream that a block was let go under.
class CudaSource : public MemorySource {
 public:
  void fill(void* to, int byte, int64_t bytes) override {
    cuda_call([&] { runtime::fill_bytes(to, byte, size_t(bytes), cuda::current_stream()); });
  }
  void read(void* to, const void* from, int64_t bytes) override {
    cuda_call([&] { runtime::copy(to, from, size_t(bytes), cuda::current_stream()); });
  }

 protected:
  static void* mark_now() {
    return cuda_call([] {
      const runtime::Event event = runtime::create_event();
      runtime::record(event, cuda::current_stream());
      return event.handle;
    });
  }
  static bool enter_if_reached(void* mark) {
    return cuda_call([&] {
      if (!runtime::reached({mark})) return false;
      runtime::destroy_event({mark});
      return true;
    });
  }
};

class DeviceSource final : public CudaSource {
 public:
  const char* name() const override { return "cuda"; }
  void* allocate(int64_t bytes) override {
    return cuda_call([&] { return runtime::allocate_device(bytes); });
  }
  void free(void* block) noexcept override {
    if constexpr (kBuiltWithCuda) runtime::free_device(block);
  }
  const void* queue() const override {
    const PoolQueues& pool = active_pool();
    if (!pool.captured) return cuda::current_stream().stream;
    return on_side_stream() ? pool.side : pool.captured;
  }
  bool must_leave_later(const void* queue) const override { return active_pool().captured && queue != this->queue(); }
  void* leave(const void* queue) override { return queue == this->queue() ? nullptr : mark_now(); }
  bool enter(void* mark) override {
    if (active_pool().captured) return enter_if_reached(mark);
    cuda_call([&] {
      runtime::wait(cuda::current_stream(), {mark});
      runtime::destroy_event({mark});
    });
    return true;
  }
  std::string hint(const std::string& remedy) const override {
    return cuda_call([&] {
      return format_message("{} of the device's {} are free, all processes counted; {}",
                            readable(runtime::free_bytes()), readable(runtime::device_info().memory), remedy);
    });
  }
};

class PinnedSource final : public CudaSource {
 public:
  const char* name() const override { return "pinned"; }
  void* allocate(int64_t bytes) override {
    return cuda_call([&] { return runtime::allocate_pinned(bytes); });
  }
  void free(void* block) noexcept override {
    if constexpr (kBuiltWithCuda) runtime::free_pinned(block);
  }
  void poison(void*, int64_t) override {}  // copies may still read it
  bool must_leave_later(const void*) const override { return active_pool().captured; }
  void* leave(const void*) override { return mark_now(); }
  bool enter(void* mark) override { return enter_if_reached(mark); }
};

}  // namespace

std::unique_ptr<MemorySource> cpu_memory() { return std::make_unique<CpuSource>(); }
std::unique_ptr<MemorySource> device_memory() { return std::make_unique<DeviceSource>(); }
std::unique_ptr<MemorySource> pinned_memory() { return std::make_unique<PinnedSource>(); }

int64_t free_memory(Device device) {
  return device == Device::kCpu ? available_host_memory() : cuda_call([] { return runtime::free_bytes(); });
}

PoolQueues& active_pool() {
  thread_local PoolQueues pool;
  return pool;
}

std::string readable(int64_t bytes) {
  return format_message(bytes < 10'000'000 ? "{} bytes" : "{} bytes ({:.1f} MiB)", bytes, double(bytes) * 0x1p-20);
}

}  // namespace libtrain::detail
