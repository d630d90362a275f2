/// The mini-batches of a training loop on a CUDA device as graphs, so that the host enqueues each in one call.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "libtrain/graph.h"

namespace libtrain {

/// Graphs by what their launches depend on: the layout of the batch, whether it begins or completes an update, where the parameters lie.
/// The first time that a key is seen its step is run; the second time it is captured and from then on launched. All share one pool of
/// memory, so they need as much as the largest.
class StepGraphs {
 public:
  /// A mini-batch and what is done with it.
  struct Step {
    std::vector<int64_t> key;                     // what its launches depend on
    std::shared_ptr<const void> batch;            // of whatever type; only the functions below look into it
    std::function<std::shared_ptr<void>()> copy;  // of the batch, into memory of its own
    std::function<void(void* copy)> refill;       // the batch into such a copy
    std::function<void(const void* batch_or_copy)>
        work;  // enqueues everything, and is the same for all batches of the key
  };

  /// Enqueues the step on this thread's stream, which must always be the same. Throws what `work` throws, and DeviceError when it launches
  /// other kernels for one batch than for another of the same key, time and again.
  void run(const Step& step);
  /// Graphs captured so far.
  int64_t count() const;

 private:
  struct Entry {
    int64_t launches = -1;  // of kernels, when it was run last
    int changes = 0;        // times that this was another number than before
    std::shared_ptr<void> batch;
    std::unique_ptr<cuda::Graph> graph;
  };
  void capture(const Step& step, Entry& entry);

  MemoryPool pool_;
  std::map<std::vector<int64_t>, Entry> entries_;
};

}  // namespace libtrain
