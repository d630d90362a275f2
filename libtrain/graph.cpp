#include "libtrain/graph.h"

#include "kernels/cuda/runtime.h"

namespace libtrain::cuda {

namespace runtime = kernels::runtime;

Graph::Graph(const MemoryPool& pool, const std::function<void()>& work) {
  const MemoryPoolScope scope(pool);
  stream_ = current_stream();
  detail::cuda_call([&] { runtime::begin_capture(stream_); });
  try {
    work();
  } catch (...) {
    try {
      detail::cuda_call([&] { runtime::destroy_graph(runtime::end_capture(stream_)); });
    } catch (const DeviceError&) {
      // Says no more than what `work` threw.
    }
    throw;
  }
  handle_ = detail::cuda_call([&] { return runtime::end_capture(stream_).handle; });
}

Graph::~Graph() {
  if constexpr (kBuiltWithCuda) {
    try {
      if (launched_) runtime::synchronize(stream_);
    } catch (const kernels::Failure&) {
      // The device has failed: who waits for it next is told.
    }
    runtime::destroy_graph({handle_});
  }
}

// Where kernels note a bad index is an argument, and so captured: the note of another stream would never tell.
void Graph::launch() const {
  if (current_stream().stream != stream_.stream)
    throw DeviceError(
        "[graph] expected the stream that the graph was captured on, got another; launch it where that stream is the "
        "current one");
  launched_ = true;
  detail::cuda_call([&] { runtime::launch({handle_}, stream_); });
}

}  // namespace libtrain::cuda
