/// The functions in float of the pointwise kernels against the C library in double.
#define LIBTRAIN_ISA kBaseline
#include "kernels/cpu/math.h"

#include "catch.h"

namespace libtrain::kernels {
namespace {

/// Largest error in ulp of the result over every `step`-th float of [low, high], which have one sign.
double worst_ulp(float (*function)(float), double (*exact)(double), float low, float high, int32_t step = 97) {
  double worst = 0;
  const int32_t from = std::bit_cast<int32_t>(low), to = std::bit_cast<int32_t>(high);
  for (int32_t bits = from; bits <= to; bits += step) {
    const float x = std::bit_cast<float>(bits);
    const double wanted = exact(double(x)), nearest = std::abs(double(float(wanted)));
    const double ulp = double(std::nextafter(float(nearest), INFINITY)) - nearest;
    const double error = std::abs(double(function(x)) - wanted) / ulp;
    worst = error <= worst ? worst : error;  // NaN counts
  }
  return worst;
}

float log_of(float x) { return CpuMath::log(x); }
float tanh_of(float x) { return CpuMath::tanh(x); }

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("log: within 1 ulp over all positive floats", "[exp]") {
  CHECK(worst_ulp(log_of, std::log, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(), 997) <=
        1);
  CHECK(worst_ulp(log_of, std::log, 0.5f, 2.0f, 7) <= 1);
}

TEST_CASE("log: ends and NaN", "[exp]") {
  CHECK(log_of(1.0f) == 0.0f);
  CHECK(log_of(0.0f) == -kInfinity);
  CHECK(log_of(-0.0f) == -kInfinity);
  CHECK(log_of(kInfinity) == kInfinity);
  for (const float x : {-1e-45f, -1.0f, -kInfinity, std::numeric_limits<float>::quiet_NaN()})
    CHECK(std::isnan(log_of(x)));
}

TEST_CASE("log1p: within 3 ulp from 0 to 1", "[exp]") {
  CHECK(worst_ulp([](float x) { return CpuMath::log1p(x); }, std::log1p, std::numeric_limits<float>::min(), 1.0f) <= 3);
  CHECK(CpuMath::log1p(0.0f) == 0);
  CHECK(std::isnan(CpuMath::log1p(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("tanh: within 2 ulp over all floats", "[exp]") {
  CHECK(worst_ulp(tanh_of, std::tanh, std::numeric_limits<float>::min(), 20.0f) <= 2);
  CHECK(worst_ulp(tanh_of, std::tanh, -std::numeric_limits<float>::min(), -20.0f) <= 2);
}

TEST_CASE("tanh: ends and NaN", "[exp]") {
  for (const float x : {20.0f, 1e30f, kInfinity}) CHECK((tanh_of(x) == 1 && tanh_of(-x) == -1));
  CHECK((tanh_of(0.0f) == 0 && tanh_of(1e-40f) == 1e-40f));
  CHECK(std::isnan(tanh_of(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace libtrain::kernels
