/// The jumps of a loss.
#include "libtrain/loss_spikes.h"

#include <cmath>
#include <limits>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/error.h"

namespace libtrain::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

/// A falling loss with ripples.
double loss_at(int step) { return 2 + 3.0 / (1 + 0.01 * step) + 0.1 * std::sin(step); }

}  // namespace

TEST_CASE("loss spikes: a jump is told with mean and deviation, ripples and falls are not", "[loss_spikes]") {
  LossSpikes spikes({.window = 50, .threshold = 6, .least = 10});
  for (int step = 0; step < 300; ++step) {
    INFO("step " << step);
    CHECK_FALSE(spikes.add(loss_at(step)));
  }
  const auto spike = spikes.add(9);
  REQUIRE(spike);
  CHECK(spike->loss == 9);
  double mean = 0, squares = 0;
  for (int step = 250; step < 300; ++step) mean += loss_at(step) / 50;
  for (int step = 250; step < 300; ++step) squares += (loss_at(step) - mean) * (loss_at(step) - mean) / 50;
  CHECK(std::abs(spike->mean - mean) < 1e-12);
  CHECK(std::abs(spike->deviation - std::sqrt(squares)) < 1e-12);
  CHECK(std::abs(spike->score - (9 - mean) / std::sqrt(squares)) < 1e-9);
  CHECK(spike->str().starts_with("loss 9 is "));
  CHECK_FALSE(spikes.add(0.1));  // down is no harm
}

TEST_CASE("loss spikes: what is not finite is always one, and spoils nothing", "[loss_spikes]") {
  LossSpikes spikes({.window = 20, .least = 10}), calm({.window = 20, .least = 10});
  CHECK(spikes.add(kNaN));  // the very first
  for (int step = 0; step < 40; ++step) {
    CHECK_FALSE(spikes.add(loss_at(step)));
    calm.add(loss_at(step));
    for (const double bad : {kNaN, kInfinity, -kInfinity}) {
      const auto spike = spikes.add(bad);
      REQUIRE(spike);
      CHECK(spike->score == kInfinity);
    }
  }
  CHECK(spikes.add(7)->score == calm.add(7)->score);
  CHECK(spikes.add(kNaN)->str().starts_with("loss nan is not finite; the mean before is "));
}

TEST_CASE("loss spikes: a new level is told only while it is new, one that never moved from its first move",
          "[loss_spikes]") {
  LossSpikes spikes({.window = 32, .threshold = 4, .least = 16});
  for (int step = 0; step < 40; ++step) CHECK_FALSE(spikes.add(1));
  CHECK(spikes.add(2));
  for (int step = 0; step < 32; ++step) spikes.add(2);
  CHECK_FALSE(spikes.add(2));
  LossSpikes early({.window = 32, .threshold = 4, .least = 16});
  for (int step = 0; step < 15; ++step) early.add(1);
  CHECK_FALSE(early.add(100));  // too few to compare with
}

TEST_CASE("loss spikes: options out of range are named", "[loss_spikes]") {
  CHECK(test::message_of<InvalidArgument>([] { LossSpikes({.window = 1}); }) ==
        "[loss_spikes] window must be >= 2, got 1");
  CHECK_THROWS_AS(LossSpikes({.threshold = 0}), InvalidArgument);
  CHECK_THROWS_AS(LossSpikes({.window = 10, .least = 11}), InvalidArgument);
  CHECK_THROWS_AS(LossSpikes({.least = 1}), InvalidArgument);
}

}  // namespace libtrain::testing
