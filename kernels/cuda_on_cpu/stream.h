/// Streams: queues of what the host has enqueued and nobody has waited for yet.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "kernels/view.h"

namespace libtrain::kernels::executor {

class Capture;

/// A recorded point of a stream.
struct Point {
  CUstream_st* stream;
  bool reached = false;
  std::chrono::steady_clock::time_point time{};  // of that
  std::shared_ptr<Capture> capture =
      nullptr;        // of which it is a part: then it is reached each time that this is launched
  size_t number = 0;  // there
};

struct Operation {
  std::function<void()> run;               // may throw Failure
  std::shared_ptr<Point> point = nullptr;  // reached when this is done
  const void* pinned_source = nullptr;     // host memory that a copy is going to read
  size_t pinned_bytes = 0;
  bool to_host = false;                      // a copy to pinned memory
  std::shared_ptr<Point> awaited = nullptr;  // before this
};

/// Held by every call of the runtime, and while kernels run: one at a time, whichever host thread waits.
std::recursive_mutex& mutex();

void push(Cuda where, Operation operation);
/// Runs all that is in the queue. What fails is kept for throw_failure(), and the rest of the queue is dropped.
void drain(CUstream_st& stream);
void drain_all();
/// Throws the first failure since the last call, if there is one.
void throw_failure();
void keep_failure(const char* what);
/// Whether an operation in some queue is going to read of this host memory.
bool is_queued_source(const void* begin, size_t bytes);
CUstream_st& stream_of(Cuda where);

/// Which stream gets on while the host neither waits nor polls. None, the default (LIBTRAIN_CUDA_STREAMS=late): each as late as the waits for its
/// events allow. With a seed (random:SEED): now and then one of them, as long as it need not wait for another.
void set_streams(std::optional<uint64_t> seed);

/// As the counter of runtime::counters().
int64_t graph_launches();

}  // namespace libtrain::kernels::executor
