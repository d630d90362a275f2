#include "libtrain/side_stream.h"

#include <algorithm>

#include "libtrain/tickets.h"

namespace libtrain::detail {
namespace {

/// While alive, this thread enqueues on the second stream.
class OnSideStream {
 public:
  explicit OnSideStream(const cuda::Stream& stream) : stream_(stream) { on_side_stream() = true; }
  ~OnSideStream() { on_side_stream() = false; }
  OnSideStream(const OnSideStream&) = delete;

 private:
  cuda::StreamScope stream_;
};

bool any_within(const std::vector<const void*>& gradients, const void* begin, int64_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(begin);
  return std::ranges::any_of(gradients, [&](const void* gradient) {
    return reinterpret_cast<uintptr_t>(gradient) - first < uintptr_t(bytes);
  });
}

}  // namespace

SideStream*& SideStream::innermost() {
  thread_local SideStream* side = nullptr;
  return side;
}
SideStream* SideStream::active() { return innermost(); }

void SideStream::run(std::span<const void* const> gradients, const std::function<void()>& work) {
  open_gradients_.insert(open_gradients_.end(), gradients.begin(), gradients.end());
  open_ = true;
  before_.record();
  const OnSideStream here(stream_);
  before_.wait();
  work();
}

void SideStream::hold(std::vector<Memory> memory) {
  if (count_ == kMostHeld) let_go_oldest();
  Held& step = held_[(oldest_ + count_) % kMostHeld];
  {
    const OnSideStream here(stream_);
    step.done.record();
  }
  step.memory = std::move(memory);
  step.gradients.swap(open_gradients_);
  ++count_;
  open_ = false;
}

void SideStream::let_go_oldest() {
  Held& step = held_[oldest_];
  step.done.wait();
  step.memory.clear();
  step.gradients.clear();
  oldest_ = (oldest_ + 1) % kMostHeld;
  --count_;
}

void SideStream::join() {
  if (!open_ && count_ == 0) return;
  {
    const OnSideStream here(stream_);
    all_done_.record();
  }
  all_done_.wait();
  forget();
}

void SideStream::leave() noexcept {
  try {
    join();
  } catch (const std::exception&) {
    forget();
  }
}

void SideStream::forget() {
  for (Held& step : held_) {
    step.memory.clear();
    step.gradients.clear();
  }
  open_gradients_.clear();
  count_ = 0;
  open_ = false;
}

void SideStream::wait_for(const void* begin, int64_t bytes) {
  const auto pending = [&](const Held& step) { return any_within(step.gradients, begin, bytes); };
  while (count_ > 0 && std::ranges::any_of(held_, pending)) let_go_oldest();
  if (any_within(open_gradients_, begin, bytes)) join();
}

void wait_for_gradient(const void* begin, int64_t bytes) {
  if (SideStream* side = SideStream::active()) side->wait_for(begin, bytes);
}

}  // namespace libtrain::detail
