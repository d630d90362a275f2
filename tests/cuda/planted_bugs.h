/// Small kernels with one bug each, and the same kernels without: what the execution on the CPU is for is to find the former and to
/// leave the latter alone.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/view.h"

namespace libtrain::kernels::planted {

constexpr int64_t kCount = 4096;  // elements of x and y

struct Bug {
  const char* name;
  /// Part of the message by which execution in some order finds it; "" if it only leaves a wrong result, nullptr if it does not find it.
  const char* in_some_order;
  /// Part of the message of the race and memory checker, in every order; "this|that" where it depends on the order what is met
  /// first. nullptr for what it does not find, or what is right although it looks odd.
  const char* by_checker;
  /// Enqueues the kernel, with its bug or without, on x (of small integers) and y (of zeros). Both have kCount elements.
  void (*run)(Cuda where, bool planted, float* x, float* y);
};
const std::vector<Bug>& bugs();
/// Those with addresses, and those between blocks.
const std::vector<Bug>& address_bugs();
const std::vector<Bug>& block_bugs();
/// Those of Hopper's asynchronous instructions.
const std::vector<Bug>& hopper_bugs();

}  // namespace libtrain::kernels::planted
