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
    scope_.emplace(*stream);
    before.wait();
  }
  ~StreamOrder() {
    if (!scope_) return;
    try {
      cuda::Event after;
      after.record();
      scope_.reset();
      after.wait();
    } catch (const std::exception&) {
      // The device has failed: who waits for it next is told.
    }
  }
  StreamOrder(const StreamOrder&) = delete;

 private:
  std::optional<cuda::StreamScope> scope_;
};

}  // namespace libtrain
