#include "libtrain/loss_spikes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "libtrain/error.h"

namespace libtrain {
namespace {

struct Moments {
  double mean = 0, deviation = 0;
};

/// Taken anew each time: nothing drifts.
Moments moments_of(const std::vector<double>& values) {
  if (values.empty()) return {};
  Moments m;
  for (const double value : values) m.mean += value / double(values.size());
  double squares = 0;
  for (const double value : values) squares += (value - m.mean) * (value - m.mean) / double(values.size());
  m.deviation = std::sqrt(squares);
  return m;
}

}  // namespace

std::string LossSpike::str() const {
  if (!std::isfinite(loss)) return format_message("loss {} is not finite; the mean before is {:.4g}", loss, mean);
  return format_message("loss {:.4g} is {:.1f} standard deviations ({:.2g}) above the mean {:.4g}", loss, score,
                        deviation, mean);
}

LossSpikes::LossSpikes(Options options) : options_(options) {
  LIBTRAIN_CHECK(options.window >= 2, "[loss_spikes] window must be >= 2, got {}", options.window);
  LIBTRAIN_CHECK(options.threshold > 0, "[loss_spikes] threshold must be > 0, got {}", options.threshold);
  LIBTRAIN_CHECK(options.least >= 2 && options.least <= options.window,
                 "[loss_spikes] least must be from 2 to window ({}), got {}", options.window, options.least);
}

std::optional<LossSpike> LossSpikes::add(double loss) {
  const Moments before = moments_of(losses_);
  if (!std::isfinite(loss))
    return LossSpike{loss, before.mean, before.deviation, std::numeric_limits<double>::infinity()};
  const bool enough = losses_.size() >= size_t(options_.least);
  if (losses_.size() < size_t(options_.window))
    losses_.push_back(loss);
  else
    losses_[next_++ % losses_.size()] = loss;
  // A loss that has not moved at all has no deviation: what rounding leaves is no jump.
  const double deviation = std::max(before.deviation, 1e-6 * std::abs(before.mean));
  const double score = deviation > 0 ? (loss - before.mean) / deviation : loss > before.mean ? HUGE_VAL : 0;
  if (!enough || score <= options_.threshold) return std::nullopt;
  return LossSpike{loss, before.mean, before.deviation, score};
}

}  // namespace libtrain
