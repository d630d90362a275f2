// Every planted bug is found by what is meant to find it, and its twin without the bug is left alone.
#include "tests/cuda/planted_bugs.h"

#include <cmath>
#include <cstring>
#include <string>

#include "tests/cuda/device_array.h"

using namespace libtrain;
using namespace libtrain::kernels;

namespace {

/// What a run left: a message, or y as bits (NaN is equal to itself, then).
struct Outcome {
  std::string message;
  std::vector<uint32_t> y;
  bool operator==(const Outcome&) const = default;
};

Outcome outcome(const planted::Bug& bug, bool planted, executor::Order order) {
  const InOrder in_order(order);
  std::vector<float> values;
  for (int64_t i = 0; i < planted::kCount; ++i) values.push_back(float(i * 37 % 101));
  const DeviceArray<float> x(values), y(std::vector<float>(values.size(), 0.0f));
  try {
    bug.run({}, planted, x.data(), y.data());
    const std::vector<float> result = y.values();
    std::vector<uint32_t> bits(result.size());
    std::memcpy(bits.data(), result.data(), bits.size() * sizeof(uint32_t));
    return {"", bits};
  } catch (const Failure& failure) {
    return {failure.what(), {}};
  }
}

/// Whether the message has one of the parts, which stand between bars, in it.
bool names(const Outcome& outcome, const std::string& parts) {
  if (outcome.message.empty()) return false;
  for (size_t begin = 0, end; begin <= parts.size(); begin = end + 1) {
    end = std::min(parts.find('|', begin), parts.size());
    if (outcome.message.find(parts.substr(begin, end - begin)) != std::string::npos) return true;
  }
  return false;
}

void check_by_order(const planted::Bug& bug, const Outcome& right) {
  bool found = false;
  std::string messages;
  for (const auto order : all_orders()) {
    const Outcome got = outcome(bug, true, order);
    messages += got.message + "\n";
    if (!bug.in_some_order) CHECK(got == right);
    if (bug.in_some_order && *bug.in_some_order == '\0') found |= got.message.empty() && got.y != right.y;
    if (bug.in_some_order && *bug.in_some_order) found |= names(got, bug.in_some_order);
  }
  CAPTURE(messages);
  CHECK(found == (bug.in_some_order != nullptr));
}

void check_by_checker(const planted::Bug& bug, const Outcome& right) {
  for (const auto order : all_orders()) {
    CAPTURE(int(order.kind), order.seed);
    const Outcome got = outcome(bug, true, order);
    CAPTURE(got.message);
    if (bug.by_checker)
      CHECK(names(got, bug.by_checker));
    else
      CHECK((got.message.empty() && (got == right || bug.in_some_order)));
  }
}

std::vector<planted::Bug> all_bugs() {
  std::vector<planted::Bug> all;
  for (const auto& some : {planted::bugs(), planted::address_bugs(), planted::block_bugs(), planted::hopper_bugs()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

}  // namespace

TEST_CASE("planted bugs: each is found by what is meant to find it", "[planted]") {
  for (const planted::Bug& bug : all_bugs()) {
    CAPTURE(bug.name);
    const Outcome right = outcome(bug, false, {executor::Order::kForward, 0});
    if (executor::instrumented())
      check_by_checker(bug, right);
    else
      check_by_order(bug, right);
  }
}

TEST_CASE("planted bugs: their correct twins are left alone in every order", "[planted]") {
  for (const planted::Bug& bug : all_bugs()) {
    CAPTURE(bug.name);
    const Outcome right = outcome(bug, false, {executor::Order::kForward, 0});
    CHECK(right.message == "");
    for (const auto order : all_orders()) CHECK(outcome(bug, false, order) == right);
  }
}
