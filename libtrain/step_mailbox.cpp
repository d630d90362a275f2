#include "libtrain/step_mailbox.h"

#include <cstring>

namespace libtrain {

void StepMailbox::Letter::check_index() const {
  if (bad_index.op == BadIndex::kNone) return;
  constexpr const char* kOps[] = {"", "embedding", "cross_entropy", "copy_rows"};
  cuda::take_bad_index();  // said once
  throw InvalidArgument(format_message(
      "[{}] index {} at row {}{} is outside [0, {}), found on the device; the weights have not changed "
      "since; check ids on the host, as make_batch() does",
      kOps[bad_index.op], bad_index.value, bad_index.row,
      bad_index.position >= 0 ? format_message(", position {}", bad_index.position) : "", bad_index.limit));
}

void StepMailbox::prepare() {
  if (!spare_.empty()) return;
  const size_t envelopes = under_way_.size() + 1;
  under_way_.reserve(envelopes);
  spare_.reserve(envelopes);
  Envelope envelope;
  if (parameters_.device() == Device::kCpu) {
    envelope.letter = allocate(Device::kCpu, sizeof(Letter));
  } else {
    envelope.letter = allocate_pinned(sizeof(Letter));
    envelope.arrival = std::make_unique<cuda::Event>();
  }
  spare_.push_back(std::move(envelope));
}

void StepMailbox::post() {
  const std::byte* state = parameters_.step_state().node_handle()->data;
  Envelope& envelope = spare_.back();
  if (parameters_.device() == Device::kCpu) {
    const Letter letter{parameters_.step(), {}};
    std::memcpy(envelope.letter.get(), &letter, sizeof letter);
  } else {
    read_later(envelope.letter.get() + offsetof(Letter, state), state, sizeof(StepState));
    read_later(envelope.letter.get() + offsetof(Letter, bad_index), cuda::current_stream().bad_index, sizeof(BadIndex));
    envelope.arrival->record();
  }
  under_way_.push_back(std::move(envelope));
  spare_.pop_back();
}

std::optional<StepMailbox::Letter> StepMailbox::take(size_t lag) {
  if (under_way_.empty()) return std::nullopt;
  Envelope& oldest = under_way_.front();
  if (oldest.arrival) {
    if (under_way_.size() <= lag && !oldest.arrival->reached()) return std::nullopt;
    if (under_way_.size() > lag) oldest.arrival->synchronize();
  }
  Letter letter;
  std::memcpy(&letter, oldest.letter.get(), sizeof letter);
  spare_.push_back(std::move(oldest));
  under_way_.erase(under_way_.begin());
  return letter;
}

}  // namespace libtrain
