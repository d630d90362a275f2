/// Work of a CUDA device that is captured once and given to it again in one call, without the host's part in it.
#pragma once
#include <functional>

#include "libtrain/allocator.h"
#include "libtrain/cuda.h"

namespace libtrain::cuda {

/// What a function enqueued, with all its arguments. Given to the device again, it does the same with what its memory holds by then.
class Graph {
 public:
  /// Calls `work`, and keeps what it enqueues on this thread's stream instead of running it. The stream must outlive the graph, and so must
  /// `pool`, in which tensors that `work` makes lie: each launch writes into that memory again, so what is still held of them shows what the
  /// last launch left there. Other memory that `work` reads or writes must stay alive. Several graphs may share a pool when they are launched
  /// one after the other.
  /// Throws what `work` throws, and DeviceError when it waits for the device or copies from or to the host; nothing is kept then, and the
  /// stream is as usable as before.
  Graph(const MemoryPool& pool, const std::function<void()>& work);
  /// Waits until the last launch is done.
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Enqueues all of it on this thread's stream, which must be the one that it was captured on: only there take_bad_index() and updates see the
  /// notes that its kernels leave. Does not wait. Throws DeviceError on another stream; nothing is enqueued then.
  void launch() const;

 private:
  Cuda stream_;
  void* handle_ = nullptr;
  mutable bool launched_ = false;
};

}  // namespace libtrain::cuda
