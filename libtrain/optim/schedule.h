/// Learning-rate schedules: the factor on the peak rate for each update, counted from 1.
#pragma once
#include <cmath>
#include <functional>
#include <numbers>

#include "libtrain/error.h"

namespace libtrain {

/// Factor for update number `update` (1, 2, 3…). A pure function, so that a resumed run continues exactly.
using Schedule = std::function<double(int64_t update)>;

/// 1 after a linear warm-up over the first `warmup` updates (0: none).
Schedule constant_schedule(int64_t warmup = 0);
/// Linear warm-up, then sqrt(warmup / update) (Vaswani et al. 2017, section 5.3). warmup >= 1.
Schedule inverse_sqrt_schedule(int64_t warmup);
/// Linear warm-up, then linear decay to `floor` at update `total` and beyond.
Schedule linear_schedule(int64_t warmup, int64_t total, double floor = 0);
/// Linear warm-up, then half a cosine down to `floor` at update `total` and beyond (Loshchilov and Hutter, ICLR 2017).
Schedule cosine_schedule(int64_t warmup, int64_t total, double floor = 0);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {
inline double warmup_factor(int64_t update, int64_t warmup) {
  return update < warmup ? double(update) / double(warmup) : 1.0;
}
/// 0 at the end of the warm-up, 1 at `total`.
inline double decay_progress(int64_t update, int64_t warmup, int64_t total) {
  if (update <= warmup) return 0;
  return update >= total ? 1.0 : double(update - warmup) / double(total - warmup);
}
inline void check_schedule(const char* name, int64_t warmup, int64_t total) {
  LIBTRAIN_CHECK(warmup >= 0 && total > warmup, "[{}] expected 0 <= warmup < total, got warmup {} and total {}", name,
                 warmup, total);
}
}  // namespace detail

inline Schedule constant_schedule(int64_t warmup) {
  return [warmup](int64_t update) { return detail::warmup_factor(update, warmup); };
}

inline Schedule inverse_sqrt_schedule(int64_t warmup) {
  LIBTRAIN_CHECK(warmup >= 1, "[inverse_sqrt_schedule] warmup must be >= 1, got {}", warmup);
  return [warmup](int64_t update) {
    return update < warmup ? detail::warmup_factor(update, warmup) : std::sqrt(double(warmup) / double(update));
  };
}

inline Schedule linear_schedule(int64_t warmup, int64_t total, double floor) {
  detail::check_schedule("linear_schedule", warmup, total);
  return [=](int64_t update) {
    return detail::warmup_factor(update, warmup) * (1 - (1 - floor) * detail::decay_progress(update, warmup, total));
  };
}

inline Schedule cosine_schedule(int64_t warmup, int64_t total, double floor) {
  detail::check_schedule("cosine_schedule", warmup, total);
  return [=](int64_t update) {
    const double cosine = std::cos(std::numbers::pi * detail::decay_progress(update, warmup, total));
    return detail::warmup_factor(update, warmup) * (floor + (1 - floor) * (1 + cosine) / 2);
  };
}

}  // namespace libtrain
