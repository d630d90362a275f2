/// Every check that a row of the table buys.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

struct Result {
  Values output;
  std::vector<Values> gradients;  // one per differentiable input, in order
};

/// Random upstream gradient, the same for every dtype: rounded through bf16, so that each dtype can hold it.
Tensor upstream(const Tensor& output) {
  Values values(static_cast<size_t>(output.numel()));
  Generator generator(77);
  normal()(values, generator);
  const Tensor rounded = Tensor::from(std::span<const double>(values), output.shape()).cast(DType::bf16);
  return rounded.cast(output.dtype()).to(output.device());
}

Result run(const OpCase& row, const std::vector<Tensor>& inputs) {
  Tape tape;
  const Tensor output = row.call(inputs);
  Result result{values_of(output), {}};
  if (output.requires_grad()) tape.backward(output, upstream(output));
  for (const Tensor& input : inputs)
    if (input.requires_grad()) result.gradients.push_back(values_of(input.grad()));
  return result;
}

/// In f64, from inputs that were rounded through `dtype`.
Result exact_result(const OpCase& row, DType dtype) {
  std::vector<Tensor> inputs;
  for (const Tensor& input : make_inputs(row, dtype, Device::kCpu)) {
    inputs.push_back(is_float(input.dtype()) ? input.cast(DType::f64) : input);
    inputs.back().set_requires_grad(input.requires_grad());
  }
  return run(row, inputs);
}

double largest(const Values& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

double worst_difference(const Values& a, const Values& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) || std::isnan(b[i])) return NAN;
    if (a[i] != b[i]) worst = std::max(worst, std::abs(a[i] - b[i]));
  }
  return worst;
}

/// A sum of n independent roundings of relative size u errs by about u * sqrt(n) of its largest partial sum: four times that, and
/// two roundings of the stored result. docs/numerics.md derives it.
double bound(const OpCase& row, DType dtype, const Values& exact) {
  const double u = dtype == DType::f32 ? 0x1p-24 : 0x1p-9;
  const double chain = dtype == DType::f32 ? 4 * std::sqrt(double(row.terms) + 16) : 4;
  return u * chain * std::max(1.0, largest(exact));
}

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
    auto* data = inputs[i].view<double>().data;
    for (int64_t probe = 0; probe < std::min<int64_t>(inputs[i].numel(), 60); ++probe) {
      const auto at = inputs[i].numel() <= 60 ? probe : int64_t(generator() % uint64_t(inputs[i].numel()));
      const double a = gradient[size_t(at)], n = difference_quotient(row, inputs, weights, data[at]);
      INFO("input " << i << " element " << at << ": analytic " << a << ", numeric " << n);
      CHECK(std::abs(a - n) / std::max({1.0, std::abs(a), std::abs(n)}) <= 1e-7);
    }
  }
}

void check_against_exact(const OpCase& row, DType dtype) {
  const Result exact = exact_result(row, dtype), actual = run(row, make_inputs(row, dtype, Device::kCpu));
  INFO("dtype " << name(dtype));
  CHECK(worst_difference(actual.output, exact.output) <= bound(row, dtype, exact.output));
  for (size_t i = 0; i < exact.gradients.size(); ++i) {
    INFO("gradient of differentiable input " << i);
    CHECK(worst_difference(actual.gradients[i], exact.gradients[i]) <= bound(row, dtype, exact.gradients[i]));
  }
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
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
      check_against_exact(row, DType::f32);
      if (row.has_bf16) check_against_exact(row, DType::bf16);
    }
}

TEST_CASE("table: nothing is written outside, nothing is left unwritten, the same bits come twice", "[table]") {
  for (const OpCase& row : op_cases()) DYNAMIC_SECTION(row.name) {
      const Result plain = run(row, make_inputs(row, DType::f32, Device::kCpu));
      const int64_t before = allocator_stats(Device::kCpu).guard_violations;
      set_allocator_guards(true);  // fills memory with NaN: whatever a kernel forgets to write shows
      const Result guarded = run(row, make_inputs(row, DType::f32, Device::kCpu));
      set_allocator_guards(false);
      CHECK(allocator_stats(Device::kCpu).guard_violations == before);
      CHECK(same_bits(plain.output, guarded.output));
      for (size_t i = 0; i < plain.gradients.size(); ++i) CHECK(same_bits(plain.gradients[i], guarded.gradients[i]));
    }
}

TEST_CASE("table: a second backward adds to the gradients", "[table]") {
  for (const OpCase& row : op_cases())
    if (!row.big) DYNAMIC_SECTION(row.name) {
        const auto inputs = make_inputs(row, DType::f64, Device::kCpu);
        const Result once = run(row, inputs), twice = run(row, inputs);
        for (size_t i = 0; i < once.gradients.size(); ++i) {
          Values doubled = once.gradients[i];
          for (double& value : doubled) value *= 2;
          CHECK(worst_difference(twice.gradients[i], doubled) <= 1e-12 * std::max(1.0, largest(doubled)));
        }
      }
}

TEST_CASE("table: a NaN in the input reaches the output or stops at a documented place", "[table]") {
  for (const OpCase& row : op_cases()) {
    if (row.big || row.inputs.empty() || !is_float(row.inputs[0].dtype) || row.inputs[0].shape.numel() == 0) continue;
    DYNAMIC_SECTION(row.name) {
      const auto inputs = make_inputs(row, DType::f32, Device::kCpu);
      inputs[0].fill(NAN);
      const Values output = values_of(row.call(inputs));
      CHECK((output.empty() || std::ranges::any_of(output, [](double value) { return std::isnan(value); })));
    }
  }
}

}  // namespace libtrain::testing
