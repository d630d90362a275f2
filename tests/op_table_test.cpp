/// Every check that a row of the table buys.
#include <cmath>

#include "catch.h"
#include "op_checks.h"

namespace libtrain::testing {
namespace {

/// d(sum of output * upstream) / d(input element), by central differences of fourth order.
double difference_quotient(const OpCase& row, const std::vector<Tensor>& inputs, const Values& weights,
                           double& element) {
  const double x = element, h = 1e-3 * std::max(1.0, std::abs(x));
  const auto loss_at = [&](double value) {
    element = value;
    const Values output = values_of(row.call(inputs));
    double loss = 0;
    for (size_t i = 0; i < output.size(); ++i) loss += output[i] * weights[i];
    return loss;
  };
  const double slope = (8 * (loss_at(x + h) - loss_at(x - h)) - (loss_at(x + 2 * h) - loss_at(x - 2 * h))) / (12 * h);
  element = x;
  return slope;
}

void check_gradient(const OpCase& row) {
  const auto inputs = make_inputs(row, DType::f64, Device::kCpu);
  const Result analytic = run(row, inputs);
  const Values weights = values_of(upstream(row.call(inputs)));
  Generator generator(5);
  size_t wanted = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].requires_grad()) continue;
    const Values& gradient = analytic.gradients[wanted++];
    auto* data = inputs[i].reshape({-1}).view<double>().data;
    for (int64_t probe = 0; probe < std::min<int64_t>(inputs[i].numel(), 60); ++probe) {
      const auto at = inputs[i].numel() <= 60 ? probe : int64_t(generator() % uint64_t(inputs[i].numel()));
      const double a = gradient[size_t(at)], n = difference_quotient(row, inputs, weights, data[at]);
      INFO("input " << i << " element " << at << ": analytic " << a << ", numeric " << n);
      CHECK(std::abs(a - n) / std::max({1.0, std::abs(a), std::abs(n)}) <= 1e-7);
    }
  }
}

}  // namespace

TEST_CASE("table: forward equals the naive reference", "[table]") {
  for (const OpCase& row : op_cases()) DYNAMIC_SECTION(row.name) {
      const auto inputs = make_inputs(row, DType::f64, Device::kCpu);
      Inputs values;
      for (const Tensor& input : inputs) values.push_back(values_of(input));
      const Values expected = row.reference(values);
      CHECK(worst_difference(values_of(row.call(inputs)), expected) <=
            1e-12 * double(row.terms + 16) * std::max(1.0, largest(expected)));
    }
}

TEST_CASE("table: gradients equal central differences", "[table]") {
  for (const OpCase& row : op_cases())
    if (!row.big) DYNAMIC_SECTION(row.name) check_gradient(row);
}

TEST_CASE("table: f32 and bf16 agree with f64", "[table]") {
  for (const OpCase& row : op_cases()) DYNAMIC_SECTION(row.name) {
      check_against_exact(row, DType::f32, Device::kCpu);
      if (row.has_bf16) check_against_exact(row, DType::bf16, Device::kCpu);
    }
}

TEST_CASE("table: nothing is written outside, nothing is left unwritten, the same bits come twice", "[table]") {
  for (const OpCase& row : op_cases()) DYNAMIC_SECTION(row.name) check_memory(row, Device::kCpu);
}

TEST_CASE("table: a second backward adds to the gradients", "[table]") {
  for (const OpCase& row : op_cases())
    if (!row.big) DYNAMIC_SECTION(row.name) check_second_backward(row, Device::kCpu);
}

TEST_CASE("table: a NaN in the input reaches the output or stops at a documented place", "[table]") {
  for (const OpCase& row : op_cases())
    if (!row.big && has_float_input(row)) DYNAMIC_SECTION(row.name) check_nan(row, Device::kCpu);
}

}  // namespace libtrain::testing
