/// What the device side throws: kernels know nothing of libtrain's own exceptions, which on() in libtrain/device.h turns this into.
#pragma once
#include <stdexcept>

namespace libtrain::kernels {

/// A launch or a call of the device's runtime that failed; the message names kernel, grid and reason.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace libtrain::kernels
