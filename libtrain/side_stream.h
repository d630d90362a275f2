/// A second CUDA stream beside the rest of backward, for the products that make gradients of weights: nothing else in backward needs those. Part
/// of Tape, of Tensor's gradients and of operations, not of what programs use; TrainOptions::weight_gradient_stream turns it on.
///
/// What must hold between the moment at which a product is given to the second stream (run) and that at which this thread's stream has been told
/// to wait for it (join), whether both are captured or not:
///   - The product reads nothing that this thread's stream has not finished by then: the second stream waits for what that was given before.
///   - What it reads belongs to the step of the tape that gave it, and the memory of a step that ran is held here (hold). So nobody gets it from
///     the allocator, and no gradient overwrites it in place, which takes a sole owner (BackwardStep::input_is_ours). It is let go under this
///     thread's stream, behind the wait. Steps write no gradients of their own outputs, so that nobody else changes what it reads.
///   - What it writes are gradients whose addresses are noted. Whoever asks for one of them on this thread, to read, write or add to it, waits
///     first (Tensor::grad and grad_sink call wait_for_gradient). The second stream's own products are in order among themselves.
///   - Its workspace, and the tickets of its last-block sums, are of the second stream; while captured, of a part of the pool that is for it alone
///     (on_side_stream).
///   - The end of Tape::backward waits for all of it, also when a step throws, before any of the tape's memory is let go.
/// While a TapeObserver lives, which looks at each operation when it has run, no product goes to the second stream.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "libtrain/cuda.h"

namespace libtrain::detail {

/// The second stream and what it has been given. Used by one thread at a time.
class SideStream {
 public:
  using Memory = std::shared_ptr<std::byte>;

  SideStream() = default;
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  /// Calls `work`, which enqueues on the second stream what writes to `gradients` alone (nullptr: of none).
  void run(std::span<const void* const> gradients, const std::function<void()>& work);
  /// Whether something was run since the last hold() or join().
  bool is_open() const { return open_; }
  /// What was run since the last call reads of this memory alone. At most kMostHeld calls are held: this thread's stream waits for the oldest.
  void hold(std::vector<Memory> memory);
  /// This thread's stream waits for all that was run; what was held is let go.
  void join();
  /// Likewise in the midst of an exception: what the device says is told to who waits for it next.
  void leave() noexcept;

  /// That of this thread's innermost SideStreamScope, or nullptr.
  static SideStream* active();

 private:
  friend void wait_for_gradient(const void* begin, int64_t bytes);
  friend class SideStreamScope;
  using Gradients = std::vector<const void*>;
  struct Held {
    cuda::Event done;
    std::vector<Memory> memory;
    Gradients gradients;
  };
  static constexpr size_t kMostHeld = 4;  // steps
  static SideStream*& innermost();
  void wait_for(const void* begin, int64_t bytes);
  void let_go_oldest();
  void forget();

  cuda::Stream stream_;
  cuda::Event before_, all_done_;
  std::array<Held, kMostHeld> held_;  // a ring
  size_t oldest_ = 0, count_ = 0;
  bool open_ = false;
  Gradients open_gradients_;  // of what was run and is not held yet
};

/// While alive, backward on this thread may use `side`; nullptr: it uses none.
class SideStreamScope {
 public:
  explicit SideStreamScope(SideStream* side) : outer_(std::exchange(SideStream::innermost(), side)) {}
  ~SideStreamScope() { SideStream::innermost() = outer_; }
  SideStreamScope(const SideStreamScope&) = delete;

 private:
  SideStream* outer_;
};

/// Before this thread reads or writes a gradient: waits for what the second stream is doing to it.
void wait_for_gradient(const void* begin, int64_t bytes);

}  // namespace libtrain::detail
