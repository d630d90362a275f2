/// Captured work: what a stream is given while it is captured, and with it the streams that wait for a point of it meanwhile.
#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

namespace libtrain::kernels::executor {

/// Work of several streams in the order in which the host gave it, each in a lane: lane 0 is that of the stream whose capture it is.
class Capture {
 public:
  /// One thing that a lane does.
  struct Step {
    size_t lane;
    std::function<void()> run;                     // or one of:
    std::optional<size_t> records{}, waits_for{};  // the number of a point
  };

  Capture() { join(); }
  /// Another lane, for a stream that is about to wait for a point of this capture.
  size_t join();
  void run(size_t lane, std::function<void()> work);
  /// The number of the point.
  size_t record(size_t lane);
  void wait(size_t lane, size_t point);
  /// From now on nobody may wait for its points.
  void end() { ended_ = true; }
  bool ended() const { return ended_; }

  /// Whether lane 0 waits for all that the others have been given.
  bool rejoined() const { return seen_[0] == given_; }
  const std::vector<Step>& steps() const { return steps_; }
  size_t points() const { return points_.size(); }
  size_t lanes() const { return given_.size(); }

 private:
  using Counts = std::vector<size_t>;  // of steps, by lane
  void add(Step step);

  std::vector<Step> steps_;
  Counts given_;                // to each lane
  std::vector<Counts> seen_;    // by lane: what is done before its next step
  std::vector<Counts> points_;  // what is done at each
  bool ended_ = false;
};

}  // namespace libtrain::kernels::executor
