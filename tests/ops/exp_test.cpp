#define LIBTRAIN_ISA kBaseline
#include "kernels/cpu/exp.h"

#include <cmath>
#include <limits>

#include "catch.h"

namespace libtrain::kernels {

TEST_CASE("vexp: within 1.5 ulp over its whole range", "[exp]") {
  double worst = 0;
  float worst_at = 0;
  for (float x = -87.3f; x < 88.72f; x += 0.00037f) {
    const double exact = std::exp(double(x));
    const float nearest = float(exact);
    const double ulp = double(std::nextafter(nearest, INFINITY)) - double(nearest);
    const double error = std::abs(double(vexp(x)) - exact) / ulp;
    if (error > worst) worst = error, worst_at = x;
  }
  INFO("worst at " << worst_at << ": " << worst << " ulp");
  CHECK(worst <= 1.5);
}

TEST_CASE("vexp: ends, subnormals and NaN", "[exp]") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(vexp(0.0f) == 1.0f);
  CHECK(vexp(infinity) == infinity);
  CHECK(vexp(88.8f) == infinity);
  CHECK(vexp(-infinity) == 0.0f);
  CHECK(vexp(-200.0f) == 0.0f);
  CHECK(vexp(-std::numeric_limits<float>::max()) == 0.0f);
  CHECK(std::isnan(vexp(std::numeric_limits<float>::quiet_NaN())));
  for (float x = -103.0f; x < -87.3f; x += 0.01f)
    REQUIRE(std::abs(double(vexp(x)) - std::exp(double(x))) <= 2 * double(std::numeric_limits<float>::denorm_min()));
}

}  // namespace libtrain::kernels
