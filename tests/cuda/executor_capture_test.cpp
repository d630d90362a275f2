// Captured work of several streams, and which stream gets on while nobody waits.
#include <cmath>

#include "kernels/cuda_on_cpu/stream.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/streams.h"
#include "tests/cuda/toy_kernels.h"

using namespace libtrain;
using namespace libtrain::kernels;
using Catch::Matchers::Contains;

namespace {

struct Graph {
  runtime::Graph graph;
  ~Graph() { runtime::destroy_graph(graph); }
};

void doubled(const Stream& on, const DeviceArray<float>& x, const DeviceArray<float>& y) {
  toy::doubled(on.where, x.data(), y.data(), x.size(), 1, 32);
}

/// Sets a choice of streams, and takes it back.
struct Choice {
  explicit Choice(uint64_t seed) { executor::set_streams(seed); }
  ~Choice() { executor::set_streams({}); }
};

/// x -> y on one stream, y -> z on another, z -> y on the first; whether each waits for the other.
struct Diamond {
  Stream first, second;
  Event fork, join;
  DeviceArray<float> x{numbers(64)}, y{64}, z{64};

  void enqueue(bool forks, bool joins) const {
    doubled(first, x, y);
    fork.record(first);
    if (forks) fork.hold(second);
    doubled(second, y, z);
    join.record(second);
    if (joins) join.hold(first);
    doubled(first, z, y);
  }
  float result() const { return y.values(first.where)[5]; }
};

constexpr float kRight = 40;  // element 5, doubled three times

}  // namespace

TEST_CASE("executor: with a seed streams get on by themselves, and still wait for events", "[executor]") {
  int without_fork = 0, without_join = 0;  // wrong results
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const Choice choice(seed);
    const Diamond right, forgets_fork, forgets_join;
    right.enqueue(true, true);
    CHECK(right.result() == kRight);
    forgets_fork.enqueue(false, true);
    without_fork += forgets_fork.result() != kRight;
    forgets_join.enqueue(true, false);
    without_join += forgets_join.result() != kRight;
  }
  CHECK(without_fork > 0);
  CHECK(without_join > 0);
}

TEST_CASE("executor: without one, a join that is forgotten shows, and a fork does not", "[executor]") {
  const Diamond forgets_fork, forgets_join;
  forgets_fork.enqueue(false, true);
  CHECK(forgets_fork.result() == kRight);  // the second stream's turn comes when the first waits for it
  forgets_join.enqueue(true, false);
  CHECK(std::isnan(forgets_join.result()));
}

TEST_CASE("executor: a stream that waits for a captured one takes part, at each launch", "[executor]") {
  for (const auto seed : {std::optional<uint64_t>(), std::optional<uint64_t>(1), std::optional<uint64_t>(2)}) {
    executor::set_streams(seed);
    const Diamond d;
    runtime::begin_capture(d.first.where);
    d.enqueue(true, true);
    const Graph graph{runtime::end_capture(d.first.where)};
    CHECK(std::isnan(d.result()));
    for (int i = 0; i < 3; ++i) {
      runtime::fill_bytes(d.y.data(), 0, 256, d.first.where);
      runtime::fill_bytes(d.z.data(), 0, 256, d.first.where);
      runtime::launch(graph.graph, d.first.where);
      CHECK(d.result() == kRight);
    }
    const Stream other;  // launched elsewhere, it is in order there
    runtime::launch(graph.graph, other.where);
    doubled(other, d.y, d.z);
    CHECK(d.z.values(other.where)[5] == 2 * kRight);
    executor::set_streams({});
  }
}

TEST_CASE("executor: streams are free again when the capture has ended", "[executor]") {
  const Diamond d;
  runtime::begin_capture(d.first.where);
  d.enqueue(true, true);
  const Graph graph{runtime::end_capture(d.first.where)};
  d.enqueue(true, true);
  CHECK(d.result() == kRight);
}

TEST_CASE("executor: what a capture with events refuses", "[executor]") {
  const Diamond d;
  const Event outside;
  outside.record(d.second);
  runtime::begin_capture(d.first.where);
  SECTION("a stream that the captured one does not wait for at the end") {
    d.enqueue(true, false);
    CHECK_THROWS_WITH(runtime::end_capture(d.first.where), Contains("does not wait for"));
  }
  SECTION("work behind the point that the captured one waits for") {
    d.enqueue(true, true);
    doubled(d.second, d.y, d.z);
    CHECK_THROWS_WITH(runtime::end_capture(d.first.where), Contains("does not wait for"));
  }
  SECTION("an event of outside") {
    CHECK_THROWS_WITH(outside.hold(d.first), Contains("can be waited for there alone"));
    CHECK_NOTHROW(Graph{runtime::end_capture(d.first.where)});
  }
  SECTION("the host's asking for an event, or waiting for a stream that takes part") {
    d.enqueue(true, true);
    CHECK_THROWS_WITH(runtime::reached(d.join.event), Contains("host cannot know"));
    CHECK_THROWS_WITH(runtime::synchronize(d.second.where), Contains("capturing"));
    CHECK_NOTHROW(Graph{runtime::end_capture(d.first.where)});
  }
  SECTION("its events, once it has ended") {
    d.enqueue(true, true);
    CHECK_NOTHROW(Graph{runtime::end_capture(d.first.where)});
    CHECK_THROWS_WITH(d.join.hold(d.second), Contains("can be waited for there alone"));
  }
  d.enqueue(true, true);  // and everything is usable
  CHECK(d.result() == kRight);
}
