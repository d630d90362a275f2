/// Order on a CUDA device: what is enqueued on a stream happens one after the other, streams run side by side. Everything here throws
/// DeviceError in a build without CUDA, and for what the device reports; a kernel's failure may come to light at a later call.
///
/// The device is the process's first GPU, of those that CUDA_VISIBLE_DEVICES names. A program that uses others by itself sets its threads back
/// to the first (cudaSetDevice(0)) before it calls libtrain, which throws DeviceError otherwise.
#pragma once
#include <string>
#include <type_traits>
#include <utility>

#include "kernels/bad_index.h"
#include "kernels/failure.h"
#include "kernels/view.h"
#include "libtrain/config.h"
#include "libtrain/error.h"

namespace libtrain {

/// True when this build has CUDA kernels and this machine a device to run them.
bool cuda_available();

/// Streams, events, and what holds for the device of the whole process.
namespace cuda {

/// A queue of work of its own, which does not wait for others. The destructor blocks until what was enqueued is done.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// The tag with which kernels are called on this stream; valid while the stream lives.
  Cuda handle() const { return handle_; }

 private:
  Cuda handle_;
};

/// The stream on which this thread enqueues: that of the innermost StreamScope, else one that all threads share.
Cuda current_stream();

/// While alive, this thread enqueues on `stream`, which must outlive it.
class StreamScope {
 public:
  /// Scopes nest; the destructor goes back to the stream of the scope around it.
  explicit StreamScope(const Stream& stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;

 private:
  Cuda outer_;
};

/// A point in a stream.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// The point is now, on this thread's stream. May be called again.
  void record();
  /// What this thread's stream is given from now on waits for the point.
  void wait() const;
  /// Whether the point has been reached; does not wait.
  bool reached() const;
  /// Blocks until it has.
  void synchronize() const;

 private:
  void* handle_;
};

/// Blocks until everything on this thread's stream has been done.
void synchronize();

/// Whether what this thread's stream is given is kept for a graph, and not run now.
bool is_capturing();

/// Whether the "device" is this machine's CPU, executing the CUDA kernels thread by thread: for tests, slow.
bool executed_on_cpu();

/// Whether products of f32 matrices may round their operands to TF32 (10 bits of fraction): several times the speed for a relative
/// error of about 1e-3. Off by default; for the whole process.
void allow_tf32(bool allowed);

/// The first index outside its table that kernels met on this thread's stream since the last call; op kNone when all was well. Blocks.
BadIndex take_bad_index();

/// What this process has asked of the device so far.
struct Counters {
  int64_t launches = 0;         // of kernels, those that were captured included
  int64_t graph_launches = 0;   // of graphs, each with all its kernels
  int64_t host_waits = 0;       // times the host blocked until the device had got somewhere
  int64_t blocking_copies = 0;  // from or to host memory that the device cannot reach by itself
  int64_t allocations = 0;      // of memory of the device, or that it can reach
};
/// Of all threads and streams, since the process began.
Counters counters();
/// Counters::launches of this thread alone.
int64_t thread_launches();

}  // namespace cuda

namespace detail {

[[noreturn]] void throw_no_cuda();

/// f(), with what the device side throws turned into DeviceError. In a build without CUDA f is never called, nor what it calls linked.
template <class F> std::invoke_result_t<F> cuda_call(F&& f) {
  if constexpr (kBuiltWithCuda) {
    try {
      return std::forward<F>(f)();
    } catch (const kernels::Failure& failure) {
      throw DeviceError(failure.what());
    }
  } else {
    throw_no_cuda();
  }
}

}  // namespace detail
}  // namespace libtrain
