// Work is put off as long as a device could put it off: until the host waits, or polls, or the queue is long. A host that relies on
// more, by reading a result or overwriting a source too early or by forgetting an event, gets wrong data here too.
#include "kernels/cuda_on_cpu/stream.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda_on_cpu/device_memory.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/settings.h"

using CapturedWork = std::vector<std::function<void()>>;

struct CUstream_st {
  std::deque<libtrain::kernels::executor::Operation> queue;
  std::optional<CapturedWork> captured;  // while capturing
};

namespace libtrain::kernels::executor {
namespace {

constexpr size_t kLongestQueue = 4096;
constexpr int kOperationsPerPoll = 16;

std::set<CUstream_st*> created;
std::optional<std::string> failure;
int64_t graphs_launched = 0;

struct EventState {
  std::shared_ptr<Point> latest;
};
EventState& state_of(runtime::Event event) { return *static_cast<EventState*>(event.handle); }

void reach(Point& point) {
  point.reached = true;
  point.time = std::chrono::steady_clock::now();
}

void drop(CUstream_st& stream) {
  for (Operation& operation : stream.queue)
    if (operation.point) reach(*operation.point);
  stream.queue.clear();
}

void run_next(CUstream_st& stream) {
  const Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  try {
    if (operation.run) operation.run();
  } catch (const std::exception& e) {
    keep_failure(e.what());
    drop(stream);
  }
  if (operation.point) reach(*operation.point);
}

/// A stream whose queue has been dropped has passed all its points.
void run_until(const Point& point) {
  while (!point.reached && !point.stream->queue.empty()) run_next(*point.stream);
}

CUstream_st& default_stream() {
  static CUstream_st stream;
  return stream;
}

void capture(CUstream_st& stream, Operation operation) {
  if (operation.point || operation.pinned_source || operation.to_host)
    throw Failure("[graph] what a graph does cannot depend on the host: no events, no copies from or to its memory");
  stream.captured->push_back(std::move(operation.run));
}

}  // namespace

std::recursive_mutex& mutex() {
  static std::recursive_mutex one;
  return one;
}

CUstream_st& stream_of(Cuda where) { return where.stream ? *where.stream : default_stream(); }

void keep_failure(const char* what) {
  if (!failure) failure = what;
}

void throw_failure() {
  if (!failure) return;
  const std::string what = *failure;
  failure.reset();
  throw Failure(what);
}

void push(Cuda where, Operation operation) {
  CUstream_st& stream = stream_of(where);
  if (stream.captured) return capture(stream, std::move(operation));
  stream.queue.push_back(std::move(operation));
  if (eager()) return drain(stream);
  while (stream.queue.size() > kLongestQueue) run_next(stream);
}

bool is_capturing(Cuda where) { return stream_of(where).captured.has_value(); }
int64_t graph_launches() { return graphs_launched; }

void drain(CUstream_st& stream) {
  if (stream.captured) throw Failure("[graph] nobody can wait for a stream that is capturing");
  while (!stream.queue.empty()) run_next(stream);
}

void drain_all() {
  const auto drain_queue = [](CUstream_st& stream) {
    while (!stream.queue.empty()) run_next(stream);
  };
  drain_queue(default_stream());
  for (CUstream_st* stream : created) drain_queue(*stream);
}

bool is_queued_source(const void* begin, size_t bytes) {
  const auto* first = static_cast<const char*>(begin);
  const auto overlaps = [&](const Operation& operation) {
    const auto* source = static_cast<const char*>(operation.pinned_source);
    return source && source < first + bytes && first < source + operation.pinned_bytes;
  };
  const auto in_queue = [&](const CUstream_st* stream) {
    return std::any_of(stream->queue.begin(), stream->queue.end(), overlaps);
  };
  return in_queue(&default_stream()) || std::any_of(created.begin(), created.end(), in_queue);
}

}  // namespace libtrain::kernels::executor

namespace libtrain::kernels::runtime {

using namespace executor;

Cuda create_stream() {
  const std::lock_guard lock(mutex());
  return {*created.insert(new CUstream_st).first};
}

void destroy_stream(Cuda where) noexcept {
  const std::lock_guard lock(mutex());
  if (!where.stream) return;
  where.stream->captured.reset();
  drain(*where.stream);
  created.erase(where.stream);
  delete where.stream;
}

Event create_event() { return {new EventState}; }
Event create_timer() { return create_event(); }

double milliseconds_between(Event from, Event to) {
  const std::lock_guard lock(mutex());
  const auto between = state_of(to).latest->time - state_of(from).latest->time;
  return std::chrono::duration<double, std::milli>(between).count();
}

void destroy_event(Event event) noexcept { delete static_cast<EventState*>(event.handle); }

void record(Event event, Cuda where) {
  const std::lock_guard lock(mutex());
  state_of(event).latest = std::make_shared<Point>(Point{&stream_of(where)});
  push(where, {nullptr, state_of(event).latest});
}

void wait(Cuda where, Event event) {
  const std::lock_guard lock(mutex());
  if (is_capturing(where)) throw Failure("[graph] what a graph does cannot depend on an event");
  const auto point = state_of(event).latest;
  if (point && !point->reached) push(where, {[point] { run_until(*point); }});
}

bool reached(Event event) {
  const std::lock_guard lock(mutex());
  const auto point = state_of(event).latest;
  if (!point) return true;
  for (int i = 0; i < kOperationsPerPoll && !point->reached; ++i) run_next(*point->stream);  // to the point at most
  return point->reached;
}

void begin_capture(Cuda where) {
  const std::lock_guard lock(mutex());
  stream_of(where).captured.emplace();
}

Graph end_capture(Cuda where) {
  const std::lock_guard lock(mutex());
  return {new CapturedWork(*std::exchange(stream_of(where).captured, std::nullopt))};
}

void launch(Graph graph, Cuda where) {
  const std::lock_guard lock(mutex());
  ++graphs_launched;
  for (const auto& run : *static_cast<CapturedWork*>(graph.handle)) push(where, {run});
}

void destroy_graph(Graph graph) noexcept { delete static_cast<CapturedWork*>(graph.handle); }

}  // namespace libtrain::kernels::runtime
