// Work is put off as long as a device could put it off: until the host waits, or polls, or the queue is long. A host that relies on
// more, by reading a result or overwriting a source too early or by forgetting an event, gets wrong data here too.
#include "kernels/cuda_on_cpu/stream.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda_on_cpu/capture.h"
#include "kernels/cuda_on_cpu/device_memory.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/settings.h"

struct CUstream_st {
  std::deque<libtrain::kernels::executor::Operation> queue;
  std::shared_ptr<libtrain::kernels::executor::Capture> capture;  // that it takes part in
  size_t lane = 0;                                                // there
};

namespace libtrain::kernels::executor {
namespace {

constexpr size_t kLongestQueue = 4096;
constexpr int kOperationsPerPoll = 16;

std::vector<CUstream_st*> created;  // oldest first
std::optional<std::string> failure;
int64_t graphs_launched = 0;

struct EventState {
  std::shared_ptr<Point> latest;
};
EventState& state_of(runtime::Event event) { return *static_cast<EventState*>(event.handle); }

/// Captured work, and a stream for each of its lanes but the first.
struct CapturedGraph {
  std::shared_ptr<const Capture> work;
  std::vector<Cuda> others;
};
CapturedGraph& state_of(runtime::Graph graph) { return *static_cast<CapturedGraph*>(graph.handle); }

void reach(Point& point) {
  point.reached = true;
  point.time = std::chrono::steady_clock::now();
}

void drop(CUstream_st& stream) {
  for (Operation& operation : stream.queue)
    if (operation.point) reach(*operation.point);
  stream.queue.clear();
}

void run_until(const Point& point);

void run_next(CUstream_st& stream) {
  const Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  try {
    if (operation.awaited) run_until(*operation.awaited);
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

/// What set_streams() has asked for.
std::optional<std::mt19937_64>& chooser() {
  static std::optional<std::mt19937_64> one = [] {
    const auto seed = streams_from_environment();
    return seed ? std::optional(std::mt19937_64(*seed)) : std::nullopt;
  }();
  return one;
}

/// An operation of some stream, if it need not wait for another.
void run_some(std::mt19937_64& draw) {
  if (draw() % 2) return;
  std::vector<CUstream_st*> busy;
  if (!default_stream().queue.empty()) busy.push_back(&default_stream());
  std::ranges::copy_if(created, std::back_inserter(busy),
                       [](const CUstream_st* stream) { return !stream->queue.empty(); });
  if (busy.empty()) return;
  CUstream_st& stream = *busy[draw() % busy.size()];
  const Operation& next = stream.queue.front();
  if (!next.awaited || next.awaited->reached) run_next(stream);
}

void capture(CUstream_st& stream, Operation operation) {
  if (operation.pinned_source || operation.to_host)
    throw Failure("[graph] what a graph does cannot depend on the host: no copies from or to its memory");
  stream.capture->run(stream.lane, std::move(operation.run));
}

/// The stream takes part in the capture that the point belongs to, from now on if it did not before.
void capture_wait(CUstream_st& stream, const Point* point) {
  const auto& capture = point ? point->capture : nullptr;
  if (!capture || capture->ended() || (stream.capture && stream.capture != capture))
    throw Failure("[graph] an event that was recorded in a capture can be waited for there alone, and no other there");
  if (!stream.capture) {
    stream.lane = capture->join();
    stream.capture = capture;
  }
  capture->wait(stream.lane, point->number);
}

/// The latest point of an event that the host asks for.
Point* point_for_host(runtime::Event event) {
  Point* const point = state_of(event).latest.get();
  if (point && point->capture) throw Failure("[graph] the host cannot know when a captured event is reached");
  return point;
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
  if (stream.capture) return capture(stream, std::move(operation));
  stream.queue.push_back(std::move(operation));
  if (eager()) return drain(stream);
  if (chooser()) run_some(*chooser());
  while (stream.queue.size() > kLongestQueue) run_next(stream);
}

void set_streams(std::optional<uint64_t> seed) {
  const std::lock_guard lock(mutex());
  seed ? void(chooser().emplace(*seed)) : chooser().reset();
}

int64_t graph_launches() { return graphs_launched; }

void drain(CUstream_st& stream) {
  if (stream.capture) throw Failure("[graph] nobody can wait for a stream that is capturing");
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
  return {created.emplace_back(new CUstream_st)};
}

void destroy_stream(Cuda where) noexcept {
  const std::lock_guard lock(mutex());
  if (!where.stream) return;
  where.stream->capture.reset();
  drain(*where.stream);
  std::erase(created, where.stream);
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
  CUstream_st& stream = stream_of(where);
  state_of(event).latest = std::make_shared<Point>(Point{&stream});
  Point& point = *state_of(event).latest;
  point.capture = stream.capture;
  if (!stream.capture) return push(where, {nullptr, state_of(event).latest});
  point.number = stream.capture->record(stream.lane);
}

void wait(Cuda where, Event event) {
  const std::lock_guard lock(mutex());
  const auto point = state_of(event).latest;
  if (is_capturing(where) || (point && point->capture)) return capture_wait(stream_of(where), point.get());
  if (point && !point->reached) push(where, {.run = nullptr, .awaited = point});
}

bool reached(Event event) {
  const std::lock_guard lock(mutex());
  const Point* const point = point_for_host(event);
  if (!point) return true;
  for (int i = 0; i < kOperationsPerPoll && !point->reached; ++i) run_next(*point->stream);  // to the point at most
  return point->reached;
}

bool is_capturing(Cuda where) {
  const std::lock_guard lock(mutex());
  return stream_of(where).capture != nullptr;
}

void begin_capture(Cuda where) {
  const std::lock_guard lock(mutex());
  CUstream_st& stream = stream_of(where);
  stream.capture = std::make_shared<Capture>();
  stream.lane = 0;
}

Graph end_capture(Cuda where) {
  const std::lock_guard lock(mutex());
  const auto work = std::exchange(stream_of(where).capture, nullptr);
  for (CUstream_st* stream : created)
    if (stream->capture == work) stream->capture.reset();
  work->end();
  if (!work->rejoined())
    throw Failure("[graph] a stream that waited for the captured one was given work that this does not wait for");
  auto graph = std::make_unique<CapturedGraph>(CapturedGraph{work, {}});
  while (graph->others.size() + 1 < work->lanes()) graph->others.push_back(create_stream());
  return {graph.release()};
}

void launch(Graph graph, Cuda where) {
  const std::lock_guard lock(mutex());
  if (is_capturing(where)) throw Failure("[graph] a graph cannot be launched on a stream that is captured");
  ++graphs_launched;
  const auto& [work, others] = state_of(graph);
  std::vector<std::shared_ptr<Point>> points(work->points());
  for (const Capture::Step& step : work->steps()) {
    const Cuda on = step.lane == 0 ? where : others[step.lane - 1];
    if (step.records)
      push(on, {nullptr, points[*step.records] = std::make_shared<Point>(Point{&stream_of(on)})});
    else
      push(on, {.run = step.run, .awaited = step.waits_for ? points[*step.waits_for] : nullptr});
  }
}

void destroy_graph(Graph graph) noexcept {
  const std::unique_ptr<CapturedGraph> gone(&state_of(graph));
  for (const Cuda other : gone->others) destroy_stream(other);
}

}  // namespace libtrain::kernels::runtime
