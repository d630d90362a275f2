#include "op_checks.h"

#include <algorithm>
#include <cmath>

#include "catch.h"

namespace libtrain::testing {
namespace {

/// In f64 on the CPU, from inputs that were rounded through `dtype`.
Result exact_result(const OpCase& row, DType dtype) {
  std::vector<Tensor> inputs;
  for (const Tensor& input : make_inputs(row, dtype, Device::kCpu)) {
    inputs.push_back(is_float(input.dtype()) ? input.cast(DType::f64) : input);
    inputs.back().set_requires_grad(input.requires_grad());
  }
  return run(row, inputs);
}

}  // namespace

/// Rounded through bf16, so that each dtype can hold it.
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

Result run(const OpCase& row, DType dtype, Device device) { return run(row, make_inputs(row, dtype, device)); }

bool same_bits(const Result& a, const Result& b) {
  bool same = same_bits(a.output, b.output) && a.gradients.size() == b.gradients.size();
  for (size_t i = 0; same && i < a.gradients.size(); ++i) same = same_bits(a.gradients[i], b.gradients[i]);
  return same;
}

/// A sum of n independent roundings of relative size u errs by about u * sqrt(n) of its largest partial sum: four times that, and
/// two roundings of the stored result.
double bound(const OpCase& row, DType dtype, const Values& exact) {
  const double u = dtype == DType::f64 ? 0x1p-53 : dtype == DType::f32 ? 0x1p-24 : 0x1p-9;
  const double chain = dtype == DType::bf16 ? 4 : 4 * std::sqrt(double(row.terms) + 16);
  return u * chain * std::max(1.0, largest(exact));
}

void check_memory(const OpCase& row, Device device) {
  const Result plain = run(row, DType::f32, device);
  const int64_t before = allocator_stats(device).guard_violations;
  set_allocator_guards(true);  // fills memory with NaN: whatever a kernel forgets to write shows
  const Result guarded = run(row, DType::f32, device);
  set_allocator_guards(false);
  CHECK(allocator_stats(device).guard_violations == before);
  CHECK(same_bits(plain, guarded));
}

void check_second_backward(const OpCase& row, Device device) {
  const auto inputs = make_inputs(row, DType::f64, device);
  const Result once = run(row, inputs), twice = run(row, inputs);
  for (size_t i = 0; i < once.gradients.size(); ++i) {
    Values doubled = once.gradients[i];
    for (double& value : doubled) value *= 2;
    CHECK(worst_difference(twice.gradients[i], doubled) <= 1e-12 * std::max(1.0, largest(doubled)));
  }
}

bool has_float_input(const OpCase& row) {
  return !row.inputs.empty() && is_float(row.inputs[0].dtype) && row.inputs[0].shape.numel() > 0;
}

void check_nan(const OpCase& row, Device device) {
  const auto inputs = make_inputs(row, DType::f32, device);
  inputs[0].fill(NAN);
  const Values output = values_of(row.call(inputs));
  CHECK((output.empty() || std::ranges::any_of(output, [](double value) { return std::isnan(value); })));
}

void check_against_exact(const OpCase& row, DType dtype, Device device) {
  const Result exact = exact_result(row, dtype), actual = run(row, dtype, device);
  INFO("dtype " << name(dtype) << " on " << name(device));
  CHECK(worst_difference(actual.output, exact.output) <= bound(row, dtype, exact.output));
  for (size_t i = 0; i < exact.gradients.size(); ++i) {
    INFO("gradient of differentiable input " << i);
    CHECK(worst_difference(actual.gradients[i], exact.gradients[i]) <= bound(row, dtype, exact.gradients[i]));
  }
}

}  // namespace libtrain::testing
