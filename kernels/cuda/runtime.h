/// What the host library needs of a CUDA device, without CUDA's headers. Two implementations: kernels/cuda/native/runtime.cu for a
/// real device, kernels/cuda_on_cpu/runtime.cpp for kernels that are executed on the CPU. Functions throw Failure unless they say else.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/failure.h"
#include "kernels/view.h"

namespace libtrain::kernels::runtime {

struct DeviceInfo {
  std::string name;    // "NVIDIA H200"
  int capability = 0;  // 90 for sm_90
  int multiprocessors = 0;
  int64_t memory = 0;     // bytes, in all
  std::string built_for;  // "sm_80 sm_90 PTX", or "execution on the CPU"
  bool executed_on_cpu = false;
};

/// Devices that this process can use; 0, without an exception, when there is no driver.
int device_count();
/// The device in use: the first one. A thread for which the program has chosen another (cudaSetDevice) gets a Failure from what makes memory,
/// streams or events, and from launches.
const DeviceInfo& device_info();
/// How many blocks run side by side at least: persistent grids are multiples of it.
int multiprocessors();

/// nullptr when there is not so much. The contents are undefined. Aligned to 256 bytes at least.
void* allocate_device(int64_t bytes);
void free_device(void* block) noexcept;
/// Host memory that copies reach without waiting; nullptr likewise.
void* allocate_pinned(int64_t bytes);
void free_pinned(void* block) noexcept;
/// Bytes of the device that nobody has, this process or another.
int64_t free_bytes();

/// Enqueues a copy between any two of device, pinned and (then blocking) other host memory.
void copy(void* to, const void* from, size_t bytes, Cuda where);
/// Enqueues filling memory of the device.
void fill_bytes(void* to, int byte, size_t bytes, Cuda where);

/// A stream that does not wait for others.
Cuda create_stream();
void destroy_stream(Cuda where) noexcept;
/// Waits until everything enqueued has been done. Also throws for what kernels did wrong.
void synchronize(Cuda where);

/// A point in a stream.
struct Event {
  void* handle = nullptr;
};
Event create_event();
void destroy_event(Event event) noexcept;
void record(Event event, Cuda where);
/// What is enqueued on `where` from now on waits for the recorded point.
void wait(Cuda where, Event event);
/// Whether the recorded point has been reached; does not wait.
bool reached(Event event);
/// Blocks the host until then.
void synchronize(Event event);

/// Work with all its arguments, captured instead of run.
struct Graph {
  void* handle = nullptr;
};
/// What is enqueued on `where`, and on streams from when they wait for an event of it, is kept and not run; `where` waits for them before the
/// end. Copies from or to host memory, the host's waiting, and events recorded outside (or waited for there) are failures until the end.
void begin_capture(Cuda where);
/// Whether what is enqueued on `where` is kept.
bool is_capturing(Cuda where);
/// What was kept. Also ends a capture in which something failed; throws then.
Graph end_capture(Cuda where);
/// Enqueues all of it, as one launch.
void launch(Graph graph, Cuda where);
void destroy_graph(Graph graph) noexcept;

/// An event that also keeps the time of its point, and the time between two of them that have been reached.
Event create_timer();
double milliseconds_between(Event from, Event to);

/// What a process has asked of the device so far: tests hold training steps to it.
struct Counters {
  int64_t launches = 0;  // of kernels, those that were captured included
  int64_t graph_launches = 0;
  int64_t host_waits = 0;       // synchronize() of either kind
  int64_t blocking_copies = 0;  // copies from or to host memory that is not pinned
  int64_t allocations = 0;      // device and pinned
};
Counters counters();
/// Likewise the launches of this thread alone.
int64_t thread_launches();
void count_launch(const char* name);

[[noreturn]] void throw_launch_failure(const char* name, std::array<unsigned, 3> grid, std::array<unsigned, 3> block,
                                       size_t shared_bytes, int status);

}  // namespace libtrain::kernels::runtime
