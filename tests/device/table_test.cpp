/// What a row of the table buys on a CUDA device, be it real or executed on the CPU.
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "op_checks.h"

namespace libtrain::testing {
namespace {

/// Big rows take an executed device minutes.
bool too_big(const OpCase& row) { return row.big && cuda::executed_on_cpu(); }

void check_all_rows(DType dtype) {
  for (const OpCase& row : op_cases()) {
    if (too_big(row) || (dtype == DType::bf16 && !row.has_bf16)) continue;
    DYNAMIC_SECTION(row.name) { check_against_exact(row, dtype, Device::kCuda); }
  }
}

}  // namespace

TEST_CASE("device: f32 agrees with f64 on the CPU", "[device]") { check_all_rows(DType::f32); }
TEST_CASE("device: bf16 agrees with f64 on the CPU", "[device]") { check_all_rows(DType::bf16); }
TEST_CASE("device: f64 agrees with f64 on the CPU", "[device]") { check_all_rows(DType::f64); }

TEST_CASE("device: nothing is written outside, nothing is left unwritten, the same bits come twice", "[device]") {
  for (const OpCase& row : op_cases()) {
    if (too_big(row)) continue;
    DYNAMIC_SECTION(row.name) {
      const Result plain = run(row, DType::f32, Device::kCuda);
      const int64_t before = allocator_stats(Device::kCuda).guard_violations;
      set_allocator_guards(true);  // fills memory with NaN: whatever a kernel forgets to write shows
      const Result guarded = run(row, DType::f32, Device::kCuda);
      set_allocator_guards(false);
      CHECK(allocator_stats(Device::kCuda).guard_violations == before);
      CHECK(same_bits(plain, guarded));
    }
  }
}

TEST_CASE("device: a second backward adds to the gradients", "[device]") {
  for (const OpCase& row : op_cases()) {
    if (row.big) continue;
    DYNAMIC_SECTION(row.name) {
      const auto inputs = make_inputs(row, DType::f64, Device::kCuda);
      const Result once = run(row, inputs), twice = run(row, inputs);
      for (size_t i = 0; i < once.gradients.size(); ++i) {
        Values doubled = once.gradients[i];
        for (double& value : doubled) value *= 2;
        CHECK(worst_difference(twice.gradients[i], doubled) <= 1e-12 * std::max(1.0, largest(doubled)));
      }
    }
  }
}

TEST_CASE("device: a NaN in the input reaches the output", "[device]") {
  for (const OpCase& row : op_cases()) {
    if (row.big || row.inputs.empty() || !is_float(row.inputs[0].dtype) || row.inputs[0].shape.numel() == 0) continue;
    DYNAMIC_SECTION(row.name) {
      const auto inputs = make_inputs(row, DType::f32, Device::kCuda);
      inputs[0].fill(NAN);
      const Values output = values_of(row.call(inputs));
      CHECK((output.empty() || std::ranges::any_of(output, [](double value) { return std::isnan(value); })));
    }
  }
}

}  // namespace libtrain::testing
