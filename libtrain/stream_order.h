/// A stream of one's own within the order of the caller's.
#pragma once
#include <optional>

#include "libtrain/cuda.h"

namespace libtrain {

/// While alive, this thread enqueues on `stream`, behind what it enqueued before; afterwards on its own, behind that. Without a
/// stream (on the CPU) nothing happens.
class StreamOrder {
 public:
  /// From now until destruction. nullptr: nothing happens.
  explicit StreamOrder(const cuda::Stream* stream) {
    if (!stream) return;
    cuda::Event before;
    before.record();
    after_.emplace();
    scope_.emplace(*stream);
    before.wait();
  }
  ~StreamOrder() {
    if (!scope_) return;
    try {
      after_->record();
      scope_.reset();
      after_->wait();
    } catch (const std::exception&) {
      // The device has failed: who waits for it next is told.
    }
  }
  StreamOrder(const StreamOrder&) = delete;

 private:
  std::optional<cuda::Event> after_;  // made first: in the end nothing new may be needed of a device
  std::optional<cuda::StreamScope> scope_;
};

}  // namespace libtrain
