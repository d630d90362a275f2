// kernels/cuda/runtime.h for kernels that are executed on the CPU: what is not a stream's or an event's own affair (stream.cpp).
#include "kernels/cuda/runtime.h"

#include <cstring>

#include "kernels/cuda_on_cpu/device_memory.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/settings.h"
#include "kernels/cuda_on_cpu/stream.h"

namespace libtrain::kernels {
namespace {

// Few, so that kernels whose grid follows from it loop over their items as they do on a device.
constexpr int kMultiprocessors = 3;
constexpr int kCapability = 90;
// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
constexpr uint64_t kMaxBlockDepth = 64, kMaxGridHeight = 65535, kMaxSharedBytes = 227 * 1024;

runtime::Counters counted;
thread_local int64_t launches_of_thread = 0;

bool is_launchable(const executor::Launch& launch) {
  const dim3 grid = launch.grid, block = launch.block;
  return block.count() >= 1 && block.count() <= executor::kMaxThreads && block.z <= kMaxBlockDepth &&
         grid.x <= INT32_MAX && grid.y <= kMaxGridHeight && grid.z <= kMaxGridHeight &&
         launch.shared_bytes <= kMaxSharedBytes;
}

}  // namespace

namespace executor {

void enqueue_launch(Cuda where, Launch launch) {
  const std::lock_guard lock(mutex());
  runtime::count_launch(launch.name);
  if (!is_launchable(launch))
    runtime::throw_launch_failure(launch.name, {launch.grid.x, launch.grid.y, launch.grid.z},
                                  {launch.block.x, launch.block.y, launch.block.z}, launch.shared_bytes, 1);
  push(where, {[launch = std::move(launch)] { run_launch(launch); }});
}

void enqueue(Cuda where, LibraryKernel kernel, std::function<void()> work) {
  const std::lock_guard lock(mutex());
  runtime::count_launch(kernel.name);
  push(where, {[kernel, work = std::move(work)] {
         observe_library_kernel(kernel);
         work();
       }});
}

void check_range(const void* begin, int64_t bytes, const char* what) {
  const std::lock_guard lock(mutex());
  if (bytes != 0 && place_of(begin, size_t(bytes), what) != Place::device)
    throw Failure(text("[", what, "] ", bytes, " bytes from ", begin, " on are not in the memory of the device"));
}

}  // namespace executor

namespace runtime {

using namespace executor;

int device_count() { return 1; }
const DeviceInfo& device_info() {
  static const DeviceInfo info{
      "CUDA kernels executed on the CPU", kCapability, kMultiprocessors, memory_limit(), "execution on the CPU", true};
  return info;
}
int multiprocessors() { return kMultiprocessors; }

void* allocate_device(int64_t bytes) {
  const std::lock_guard lock(mutex());
  ++counted.allocations;
  return allocate_block(bytes);
}

void free_device(void* block) noexcept {
  const std::lock_guard lock(mutex());
  if (!block) return;
  drain_all();
  if (!free_block(block)) keep_failure("free_device: not a live block of the device");
}

void* allocate_pinned(int64_t bytes) {
  const std::lock_guard lock(mutex());
  ++counted.allocations;
  return allocate_pinned_block(bytes);
}

void free_pinned(void* block) noexcept {
  const std::lock_guard lock(mutex());
  if (!block) return;
  drain_all();
  if (!free_pinned_block(block)) keep_failure("free_pinned: not a live block of pinned memory");
}

int64_t free_bytes() {
  const std::lock_guard lock(mutex());
  return memory_limit() - live_bytes();
}

void copy(void* to, const void* from, size_t bytes, Cuda where) {
  const std::lock_guard lock(mutex());
  if (bytes == 0) return;
  const Place target = place_of(to, bytes, "copy to"), source = place_of(from, bytes, "copy from");
  if (target == Place::host || source == Place::host) {
    if (is_capturing(where)) throw Failure("[copy] from or to host memory cannot be captured");
    ++counted.blocking_copies;
    drain(stream_of(where));
    throw_failure();
    std::memmove(to, from, bytes);
    return;
  }
  // Who reads the result before having waited for it reads NaN.
  if (target == Place::pinned && !is_capturing(where) && !is_queued_source(to, bytes)) std::memset(to, 0xFF, bytes);
  push(where, {[=] { std::memmove(to, from, bytes); }, nullptr, source == Place::pinned ? from : nullptr, bytes,
               target == Place::pinned});
}

void fill_bytes(void* to, int byte, size_t bytes, Cuda where) {
  const std::lock_guard lock(mutex());
  check_range(to, int64_t(bytes), "fill_bytes");
  if (bytes) push(where, {[=] { std::memset(to, byte, bytes); }});
}

void synchronize(Cuda where) {
  const std::lock_guard lock(mutex());
  ++counted.host_waits;
  drain(stream_of(where));
  throw_failure();
}

void synchronize(Event event) {
  const std::lock_guard lock(mutex());
  ++counted.host_waits;
  while (!reached(event)) {
  }
  throw_failure();
}

Counters counters() {
  const std::lock_guard lock(mutex());
  counted.graph_launches = graph_launches();
  return counted;
}
int64_t thread_launches() { return launches_of_thread; }
void count_launch(const char*) {
  const std::lock_guard lock(mutex());
  ++counted.launches;
  ++launches_of_thread;
}

void throw_launch_failure(const char* name, std::array<unsigned, 3> grid, std::array<unsigned, 3> block,
                          size_t shared_bytes, int) {
  throw Failure(text("[", name, "] cannot be launched: grid ", text_of({grid[0], grid[1], grid[2]}), ", blocks of ",
                     text_of({block[0], block[1], block[2]}), " with ", shared_bytes,
                     " bytes of dynamic shared memory; a block has 1 to ", kMaxThreads, " threads and at most ",
                     kMaxSharedBytes, " bytes, a grid at most ", kMaxGridHeight, " blocks in y and z"));
}

}  // namespace runtime
}  // namespace libtrain::kernels
