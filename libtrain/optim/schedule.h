/// Learning-rate schedules: the factor on the peak rate for each update, counted from 1. Pieces in `schedule::` can be joined and
/// multiplied; below them stand the combinations that most programs want.
///
///   using namespace libtrain::schedule;
///   const auto cycle = then(warmup(100), 100, cosine(1, 0.1, 900));     // 100 updates up, 900 down, then 0.1
///   const auto halved = times(cycle, step(5000, 0.5));
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "libtrain/error.h"

namespace libtrain {

/// Factor for update number `update` (1, 2, 3…). A pure function, so that a resumed run continues exactly: any function will do.
using Schedule = std::function<double(int64_t update)>;

/// The pieces. Each throws InvalidArgument for `updates` or `every` out of range when it is made, not when an update asks for its factor.
namespace schedule {
/// `factor` for every update.
Schedule constant(double factor = 1);
/// update / updates, up to 1. updates 0: 1 throughout.
Schedule warmup(int64_t updates);
/// In a straight line to `to`, which it reaches at update `updates` and keeps; `from` would be its value at update 0. updates >= 1.
Schedule linear(double from, double to, int64_t updates);
/// Likewise, on half a cosine (Loshchilov and Hutter, ICLR 2017).
Schedule cosine(double from, double to, int64_t updates);
/// 1 up to update `updates`, then sqrt(updates / update) (Vaswani et al. 2017, section 5.3, without its warm-up). updates >= 1.
Schedule inverse_sqrt(int64_t updates);
/// 1 for the first `every` updates, and `factor` times as much for each `every` thereafter. every >= 1.
Schedule step(int64_t every, double factor);

/// `first` for so many updates, then `next`, which counts its own from 1.
Schedule then(Schedule first, int64_t updates, Schedule next);
/// The product of both.
Schedule times(Schedule a, Schedule b);
}  // namespace schedule

/// 1 after a linear warm-up over the first `warmup` updates (0: none).
Schedule constant_schedule(int64_t warmup = 0);
/// Linear warm-up, then sqrt(warmup / update). warmup >= 1.
Schedule inverse_sqrt_schedule(int64_t warmup);
/// Linear warm-up, then linear decay to `floor` at update `total` and beyond.
Schedule linear_schedule(int64_t warmup, int64_t total, double floor = 0);
/// Linear warm-up, then half a cosine down to `floor` at update `total` and beyond.
Schedule cosine_schedule(int64_t warmup, int64_t total, double floor = 0);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {
inline void check_updates(const char* name, const char* argument, int64_t updates, int64_t least) {
  LIBTRAIN_CHECK(updates >= least, "[{}] {} must be >= {}, got {}; it is a number of updates", name, argument, least,
                 updates);
}
inline void check_schedule(const char* name, int64_t warmup, int64_t total) {
  LIBTRAIN_CHECK(
      warmup >= 0 && total > warmup,
      "[{}] expected 0 <= warmup < total, got warmup {} and total {}; shorten the warm-up or lengthen the run", name,
      warmup, total);
}
/// 0 at update 0, 1 at `updates` and beyond.
inline double progress(int64_t update, int64_t updates) {
  return update >= updates ? 1.0 : double(update) / double(updates);
}
}  // namespace detail

namespace schedule {
inline Schedule constant(double factor) {
  return [factor](int64_t) { return factor; };
}

inline Schedule warmup(int64_t updates) {
  detail::check_updates("schedule::warmup", "updates", updates, 0);
  return [updates](int64_t update) { return detail::progress(update, updates); };
}

inline Schedule linear(double from, double to, int64_t updates) {
  detail::check_updates("schedule::linear", "updates", updates, 1);
  return [=](int64_t update) { return from + (to - from) * detail::progress(update, updates); };
}

inline Schedule cosine(double from, double to, int64_t updates) {
  detail::check_updates("schedule::cosine", "updates", updates, 1);
  return [=](int64_t update) {
    return to + (from - to) * (1 + std::cos(std::numbers::pi * detail::progress(update, updates))) / 2;
  };
}

inline Schedule inverse_sqrt(int64_t updates) {
  detail::check_updates("schedule::inverse_sqrt", "updates", updates, 1);
  return [updates](int64_t update) { return std::sqrt(double(updates) / double(std::max(update, updates))); };
}

inline Schedule step(int64_t every, double factor) {
  detail::check_updates("schedule::step", "every", every, 1);
  return [=](int64_t update) { return std::pow(factor, double((update - 1) / every)); };
}

inline Schedule then(Schedule first, int64_t updates, Schedule next) {
  detail::check_updates("schedule::then", "updates", updates, 0);
  LIBTRAIN_CHECK(first && next,
                 "[schedule::then] expected two schedules, got an empty one; constant_schedule() is the plainest");
  return [=](int64_t update) { return update <= updates ? first(update) : next(update - updates); };
}

inline Schedule times(Schedule a, Schedule b) {
  LIBTRAIN_CHECK(a && b,
                 "[schedule::times] expected two schedules, got an empty one; constant_schedule() is the plainest");
  return [=](int64_t update) { return a(update) * b(update); };
}
}  // namespace schedule

inline Schedule constant_schedule(int64_t warmup) { return schedule::warmup(warmup); }

inline Schedule inverse_sqrt_schedule(int64_t warmup) {
  detail::check_updates("inverse_sqrt_schedule", "warmup", warmup, 1);
  return schedule::times(schedule::warmup(warmup), schedule::inverse_sqrt(warmup));
}

inline Schedule linear_schedule(int64_t warmup, int64_t total, double floor) {
  detail::check_schedule("linear_schedule", warmup, total);
  return schedule::then(schedule::warmup(warmup), warmup, schedule::linear(1, floor, total - warmup));
}

inline Schedule cosine_schedule(int64_t warmup, int64_t total, double floor) {
  detail::check_schedule("cosine_schedule", warmup, total);
  return schedule::then(schedule::warmup(warmup), warmup, schedule::cosine(1, floor, total - warmup));
}

}  // namespace libtrain
