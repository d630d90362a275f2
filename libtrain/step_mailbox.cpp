#include "libtrain/step_mailbox.h"

#include <cstring>

namespace libtrain {

void StepMailbox::post() {
  const std::byte* state = parameters_.step_state().node_handle()->data;
  Envelope envelope;
  if (parameters_.device() == Device::kCpu) {
    envelope.letter = allocate(Device::kCpu, sizeof(Letter));
    const Letter letter{parameters_.step(), {}};
    std::memcpy(envelope.letter.get(), &letter, sizeof letter);
  } else {
    envelope.letter = allocate_pinned(sizeof(Letter));
    read_later(envelope.letter.get() + offsetof(Letter, state), state, sizeof(StepState));
    read_later(envelope.letter.get() + offsetof(Letter, bad_index), cuda::current_stream().bad_index, sizeof(BadIndex));
    if (spare_events_.empty()) spare_events_.push_back(std::make_unique<cuda::Event>());
    envelope.arrival = std::move(spare_events_.back());
    spare_events_.pop_back();
    envelope.arrival->record();
  }
  under_way_.push_back(std::move(envelope));
}

std::optional<StepMailbox::Letter> StepMailbox::take(size_t lag) {
  if (under_way_.empty()) return std::nullopt;
  Envelope& oldest = under_way_.front();
  if (oldest.arrival) {
    if (under_way_.size() <= lag && !oldest.arrival->reached()) return std::nullopt;
    if (under_way_.size() > lag) oldest.arrival->synchronize();
    spare_events_.push_back(std::move(oldest.arrival));
  }
  Letter letter;
  std::memcpy(&letter, oldest.letter.get(), sizeof letter);
  under_way_.pop_front();
  return letter;
}

}  // namespace libtrain
