/// THE TABLE: one row per operation and shape. A row buys, on every device and dtype that is there: forward against a naive
/// reference, gradients against central differences in f64, f32 and bf16 against f64 within derived bounds, guard words, bitwise
/// repeatability, and a benchmark (tests/op_table_test.cpp, bench/op_bench.cpp).
#pragma once
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "libtrain/libtrain.h"

namespace libtrain::testing {

/// Values of one input on the host, in double; integers are exact.
using Values = std::vector<double>;
/// All inputs of a row, as a naive reference reads them.
using Inputs = std::vector<Values>;
using Generator = std::mt19937_64;

/// How an input is filled. Standard ones stand below.
using Fill = std::function<void(Values&, Generator&)>;
Fill normal(double stddev = 1);
/// Normal, but nothing within 0.05 of zero: for functions with a kink there.
Fill away_from_zero();
/// Uniform integers in [low, high).
Fill integers(int64_t low, int64_t high);
Fill exactly(Values values);

struct Input {
  Shape shape;
  Fill fill = normal();
  DType dtype = DType::f64;    // a float input takes the dtype under test; i32 and i64 stay
  bool differentiable = true;  // integers never are
};

struct OpCase {
  std::string name;  // "op shape", unique
  std::vector<Input> inputs;
  /// The operation; its result is the output whose gradient is checked.
  std::function<Tensor(const std::vector<Tensor>&)> call;
  /// The same forward as plain loops in double, written from the definition and sharing nothing with the kernels.
  std::function<Values(const Inputs&)> reference;
  /// Longest chain of roundings behind one output or gradient element, e.g. the columns of a row sum: scales the bound of f32.
  int64_t terms = 1;
  /// Compulsory bytes per element size (each input read and output written once: elements, not bytes) and operations, forward.
  double elements = 0, flops = 0;
  /// Big rows are benchmarked and compared between dtypes, but not differenced element by element.
  bool big = false;
  bool has_bf16 = true;
};

/// All rows, small ones first.
const std::vector<OpCase>& op_cases();

/// The inputs of a row: floats in `dtype` (rounded through it), wanting gradients if the row says so. Same seed, same values.
std::vector<Tensor> make_inputs(const OpCase& row, DType dtype, Device device, uint64_t seed = 1);
/// Every element of any tensor as double, on the host.
Values values_of(const Tensor& tensor);

}  // namespace libtrain::testing
