/// Reading the step state of a store without waiting for the device.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "libtrain/parameters.h"

namespace libtrain {

/// Snapshots of the step state, taken in the order in which the device works and handed out when they have arrived: on a CUDA device
/// while later work is under way, on the CPU at once.
class StepMailbox {
 public:
  /// One snapshot.
  struct Letter {
    StepState state;     // as it was when the device got to post()
    BadIndex bad_index;  // met by kernels up to then; kNone on the CPU, where indices are checked before

    /// Throws InvalidArgument when an index is bad, with operation, row, position and value. The record on the device is then empty again.
    void check_index() const;
  };

  /// Reads the step state of `parameters`, which must outlive it.
  explicit StepMailbox(const Parameters& parameters) : parameters_(parameters) {}

  /// Gets the memory for the next post(), if it is not there: what can fail for want of it fails here.
  void prepare();
  /// Takes a snapshot when the device gets here. Does not wait. prepare() comes first.
  void post();
  /// The oldest snapshot. Waits for it only if more than `lag` are under way; without it, empty when it has not arrived (or none is there).
  std::optional<Letter> take(size_t lag);

 private:
  struct Envelope {
    std::shared_ptr<std::byte> letter;  // pinned memory, or ordinary memory on the CPU
    std::unique_ptr<cuda::Event> arrival;
  };

  const Parameters& parameters_;
  std::vector<Envelope> under_way_, spare_;  // oldest first; both have room for all there are
};

}  // namespace libtrain
