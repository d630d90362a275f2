// The device runtime on a real device: thin calls of the CUDA runtime API, each failure turned into a Failure.
#include "kernels/cuda/runtime.h"

#include <cuda_runtime.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include "kernels/cuda/native/first_device.h"
#include "kernels/cuda/native/vocabulary.cuh"

namespace libtrain::kernels::runtime {
namespace {

struct AtomicCounters {
  std::atomic<int64_t> launches{0}, graph_launches{0}, host_waits{0}, blocking_copies{0}, allocations{0};
};
thread_local int64_t launches_of_thread = 0;

AtomicCounters& counted() {
  static AtomicCounters counters;
  return counters;
}

std::string describe(cudaError_t status) {
  return std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
}

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that the next call is not blamed for it
  throw Failure(std::string("[cuda] ") + call + " failed: " + describe(status));
}

/// "sm_80 sm_90 PTX", from the list that CMake was configured with.
constexpr const char* kBuiltFor = LIBTRAIN_CUDA_ARCHITECTURES;

DeviceInfo read_device_info() {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return {properties.name, properties.major * 10 + properties.minor, properties.multiProcessorCount,
          int64_t(properties.totalGlobalMem), kBuiltFor};
}

/// Nothing of this build runs on the device: the one launch failure that users meet.
bool is_wrong_architecture(cudaError_t status) {
  return status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction ||
         status == cudaErrorUnsupportedPtxVersion || status == cudaErrorInvalidPtx;
}

cudaMemoryType kind_of_memory(const void* pointer) {
  cudaPointerAttributes attributes;
  check(cudaPointerGetAttributes(&attributes, pointer), "cudaPointerGetAttributes");
  return attributes.type;
}

cudaEvent_t handle_of(Event event) { return static_cast<cudaEvent_t>(event.handle); }

std::string dims(std::array<unsigned, 3> d) {
  return "(" + std::to_string(d[0]) + ", " + std::to_string(d[1]) + ", " + std::to_string(d[2]) + ")";
}

}  // namespace

void require_first_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  if (device != 0)
    throw Failure("[cuda] expected this thread to use the process's first GPU, as libtrain does, got GPU " +
                  std::to_string(device) +
                  "; call cudaSetDevice(0) before, or let CUDA_VISIBLE_DEVICES say which GPU is the first");
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

const DeviceInfo& device_info() {
  static const DeviceInfo info = read_device_info();
  return info;
}

int multiprocessors() { return device_info().multiprocessors; }

void* allocate_device(int64_t bytes) {
  require_first_device();
  void* block = nullptr;
  const cudaError_t status = cudaMalloc(&block, size_t(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMalloc");
  ++counted().allocations;
  return block;
}

void free_device(void* block) noexcept { cudaFree(block); }

void* allocate_pinned(int64_t bytes) {
  require_first_device();
  void* block = nullptr;
  const cudaError_t status = cudaMallocHost(&block, size_t(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMallocHost");
  ++counted().allocations;
  return block;
}

void free_pinned(void* block) noexcept { cudaFreeHost(block); }

int64_t free_bytes() {
  require_first_device();
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return int64_t(free);
}

void copy(void* to, const void* from, size_t bytes, Cuda where) {
  if (bytes == 0) return;
  const cudaMemoryType target = kind_of_memory(to), source = kind_of_memory(from);
  if ((target != cudaMemoryTypeDevice || source != cudaMemoryTypeDevice) && is_capturing(where))
    throw Failure(
        "[copy] from or to host memory cannot be captured: a graph would do it again with what is there then");
  const bool blocking = target == cudaMemoryTypeUnregistered || source == cudaMemoryTypeUnregistered;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, where.stream), "cudaMemcpyAsync");
  if (!blocking) return;
  ++counted().blocking_copies;
  check(cudaStreamSynchronize(where.stream), "cudaStreamSynchronize");
}

void fill_bytes(void* to, int byte, size_t bytes, Cuda where) {
  if (bytes) check(cudaMemsetAsync(to, byte, bytes, where.stream), "cudaMemsetAsync");
}

Cuda create_stream() {
  require_first_device();
  Cuda where;
  check(cudaStreamCreateWithFlags(&where.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return where;
}

void destroy_stream(Cuda where) noexcept { cudaStreamDestroy(where.stream); }

void synchronize(Cuda where) {
  ++counted().host_waits;
  check(cudaStreamSynchronize(where.stream), "cudaStreamSynchronize");
}

Event create_event() {
  require_first_device();
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return {event};
}

void destroy_event(Event event) noexcept { cudaEventDestroy(handle_of(event)); }
void record(Event event, Cuda where) { check(cudaEventRecord(handle_of(event), where.stream), "cudaEventRecord"); }
void wait(Cuda where, Event event) {
  check(cudaStreamWaitEvent(where.stream, handle_of(event)), "cudaStreamWaitEvent");
}

bool reached(Event event) {
  const cudaError_t status = cudaEventQuery(handle_of(event));
  if (status == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(status, "cudaEventQuery");
  return true;
}

void synchronize(Event event) {
  ++counted().host_waits;
  check(cudaEventSynchronize(handle_of(event)), "cudaEventSynchronize");
}

bool is_capturing(Cuda where) {
  cudaStreamCaptureStatus status;
  check(cudaStreamIsCapturing(where.stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

// Relaxed: the capturing thread may allocate, and ask whether events of other streams have been reached.
void begin_capture(Cuda where) {
  check(cudaStreamBeginCapture(where.stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
}

Graph end_capture(Cuda where) {
  cudaGraph_t captured = nullptr;
  check(cudaStreamEndCapture(where.stream, &captured), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, captured, 0);
  cudaGraphDestroy(captured);
  check(status, "cudaGraphInstantiate");
  return {executable};
}

void launch(Graph graph, Cuda where) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph.handle), where.stream), "cudaGraphLaunch");
  ++counted().graph_launches;
}

void destroy_graph(Graph graph) noexcept { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph.handle)); }

Event create_timer() {
  require_first_device();
  cudaEvent_t event;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return {event};
}

double milliseconds_between(Event from, Event to) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, handle_of(from), handle_of(to)), "cudaEventElapsedTime");
  return milliseconds;
}

Counters counters() {
  const AtomicCounters& c = counted();
  return {c.launches, c.graph_launches, c.host_waits, c.blocking_copies, c.allocations};
}

int64_t thread_launches() { return launches_of_thread; }

void count_launch(const char*) {
  ++counted().launches;
  ++launches_of_thread;
}

int allow_shared_bytes(const void* kernel, int bytes) {
  require_first_device();
  static std::mutex mutex;
  static std::map<const void*, int> allowed;
  const std::lock_guard lock(mutex);
  int& most = allowed[kernel];
  if (bytes <= most) return cudaSuccess;
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status == cudaSuccess) most = bytes;
  return status;
}

void throw_launch_failure(const char* name, std::array<unsigned, 3> grid, std::array<unsigned, 3> block,
                          size_t shared_bytes, int status) {
  cudaGetLastError();  // as in check()
  require_first_device();
  const auto error = cudaError_t(status);
  if (is_wrong_architecture(error))
    throw Failure("[" + std::string(name) + "] built for " + kBuiltFor + ", this GPU (" + device_info().name +
                  ") is sm_" + std::to_string(device_info().capability) +
                  "; configure with -DCMAKE_CUDA_ARCHITECTURES=" + std::to_string(device_info().capability));
  throw Failure("[" + std::string(name) + "] launch with grid " + dims(grid) + ", block " + dims(block) + ", " +
                std::to_string(shared_bytes) + " bytes of shared memory failed: " + describe(error));
}

}  // namespace libtrain::kernels::runtime
