#include "libtrain/step_graphs.h"

#include <algorithm>

namespace libtrain {
namespace {

/// A step's launches may change once or twice while what is made on first use is made. Beyond that, they never settle.
constexpr int kMostChanges = 4;

int64_t launches_of(const std::function<void()>& work) {
  const int64_t before = cuda::thread_launches();  // other threads may train models of their own
  work();
  return cuda::thread_launches() - before;
}

}  // namespace

void StepGraphs::run(const Step& step) {
  Entry& entry = entries_[step.key];
  if (entry.graph) {
    step.refill(entry.batch.get());
    entry.graph->launch();
  } else if (entry.launches < 0) {
    entry.launches = launches_of([&] { step.work(step.batch.get()); });
  } else {
    capture(step, entry);
  }
}

/// A graph of other launches than those of the run before is thrown away, and what it would have done is run.
void StepGraphs::capture(const Step& step, Entry& entry) {
  entry.batch = step.copy();
  std::unique_ptr<cuda::Graph> graph;
  const int64_t launches =
      launches_of([&] { graph = std::make_unique<cuda::Graph>(pool_, [&] { step.work(entry.batch.get()); }); });
  const bool settled = launches == entry.launches;
  if (!settled && ++entry.changes > kMostChanges)
    throw DeviceError(format_message(
        "[train_loop] a step launched {} kernels for one batch and {} for another of the same layout, so that no graph "
        "can stand for it; make the loss depend on the batch's layout alone, or set graphs to false",
        entry.launches, launches));
  entry.launches = launches;
  graph->launch();
  if (settled) entry.graph = std::move(graph);
}

int64_t StepGraphs::count() const {
  return std::ranges::count_if(entries_, [](const auto& entry) { return entry.second.graph != nullptr; });
}

}  // namespace libtrain
