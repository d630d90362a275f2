#pragma once
#include <cmath>

#include "libtrain/error.h"

namespace libtrain::detail {

/// Throws InvalidArgument naming the norm `op` unless epsilon is >= 0 and finite.
inline void check_epsilon(const char* op, double epsilon) {
  LIBTRAIN_CHECK(epsilon >= 0 && std::isfinite(epsilon), "[{}] epsilon must be >= 0 and finite, got {}; 1e-5 is usual",
                 op, epsilon);
}

}  // namespace libtrain::detail
