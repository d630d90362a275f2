#include "libtrain/graph.h"

#include "kernels/cuda/runtime.h"

namespace libtrain::cuda {

namespace runtime = kernels::runtime;

Graph::Graph(const MemoryPool& pool, const std::function<void()>& work) {
  const MemoryPoolScope scope(pool);
  const Cuda where = current_stream();
  detail::cuda_call([&] { runtime::begin_capture(where); });
  try {
    work();
  } catch (...) {
    try {
      detail::cuda_call([&] { runtime::destroy_graph(runtime::end_capture(where)); });
    } catch (const DeviceError&) {
      // Says no more than what `work` threw.
    }
    throw;
  }
  handle_ = detail::cuda_call([&] { return runtime::end_capture(where).handle; });
}

Graph::~Graph() {
  if constexpr (kBuiltWithCuda) {
    try {
      if (launched_on_.stream) runtime::synchronize(launched_on_);
    } catch (const kernels::Failure&) {
      // The device has failed: who waits for it next is told.
    }
    runtime::destroy_graph({handle_});
  }
}

void Graph::launch() const {
  launched_on_ = current_stream();
  detail::cuda_call([&] { runtime::launch({handle_}, launched_on_); });
}

}  // namespace libtrain::cuda
