/// How a row of the table is run and judged, on any device.
#pragma once
#include "compare.h"

namespace libtrain::testing {

/// What a row gives for a random upstream gradient, which is the same for every dtype and device.
struct Result {
  Values output;
  std::vector<Values> gradients;  // one per differentiable input, in order
};
Result run(const OpCase& row, const std::vector<Tensor>& inputs);
Result run(const OpCase& row, DType dtype, Device device);
Tensor upstream(const Tensor& output);

bool same_bits(const Result& a, const Result& b);

/// How far a result in `dtype` may be from the exact one; docs/numerics.md derives it.
double bound(const OpCase& row, DType dtype, const Values& exact);

/// Output and gradients in `dtype` on `device` agree, within the bound, with f64 on the CPU from the same rounded inputs.
void check_against_exact(const OpCase& row, DType dtype, Device device);
/// Nothing is written outside, nothing is left unwritten, the same bits come twice.
void check_memory(const OpCase& row, Device device);
/// A second backward adds to the gradients.
void check_second_backward(const OpCase& row, Device device);
/// Whether the first input has floats, which check_nan needs.
bool has_float_input(const OpCase& row);
/// A NaN in the first input reaches the output.
void check_nan(const OpCase& row, Device device);

}  // namespace libtrain::testing
