/// What a row of the table buys on a CUDA device, be it real or executed on the CPU.
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
  for (const OpCase& row : op_cases())
    if (!too_big(row)) DYNAMIC_SECTION(row.name) check_memory(row, Device::kCuda);
}

TEST_CASE("device: a second backward adds to the gradients", "[device]") {
  for (const OpCase& row : op_cases())
    if (!row.big) DYNAMIC_SECTION(row.name) check_second_backward(row, Device::kCuda);
}

TEST_CASE("device: a NaN in the input reaches the output", "[device]") {
  for (const OpCase& row : op_cases())
    if (!row.big && has_float_input(row)) DYNAMIC_SECTION(row.name) check_nan(row, Device::kCuda);
}

}  // namespace libtrain::testing
