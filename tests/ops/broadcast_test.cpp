/// add, sub, mul and div of tensors and numbers: what the table cannot say.
#include "any_threads.h"
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

using Binary = Tensor (*)(const Tensor&, const Tensor&);
constexpr std::pair<const char*, Binary> kOperations[] = {{"add", add}, {"sub", sub}, {"mul", mul}, {"div", div}};

/// The message with which `operation` refuses its arguments.
std::string refusal(Binary operation, const Tensor& a, const Tensor& b) {
  try {
    operation(a, b);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no refusal";
}

}  // namespace

TEST_CASE("binary: dtypes, devices and shapes that do not agree are refused, with a remedy where there is one") {
  const Tensor x = Tensor::zeros({2, 3});
  for (const auto& [name, operation] : kOperations) {
    const std::string op = std::string("[") + name + "] ";
    CHECK(refusal(operation, x, Tensor::zeros({3, 2})) ==
          op + "expected sizes that are equal or 1, got [2, 3] and [3, 2]: 3 against 2 in dimension -1 (did you "
               "mean transpose(b, -2, -1)?)");
    CHECK(refusal(operation, x, Tensor::zeros({2})) ==
          op + "expected sizes that are equal or 1, got [2, 3] and [2]: 3 against 2 in dimension -1 (did you mean "
               "to reshape [2] to [2, 1]?)");
    CHECK(refusal(operation, Tensor::zeros({2}), x) ==
          op + "expected sizes that are equal or 1, got [2] and [2, 3]: 2 against 3 in dimension -1 (did you mean "
               "to reshape [2] to [2, 1]?)");
    CHECK(refusal(operation, x, Tensor::zeros({5, 3})) ==
          op + "expected sizes that are equal or 1, got [2, 3] and [5, 3]: 2 against 5 in dimension -2; reshape() one "
               "of them");
    CHECK(refusal(operation, x, Tensor::zeros({0})) == op + "expected sizes that are equal or 1, got [2, 3] and [0]: 3 "
                                                            "against 0 in dimension -1; reshape() one of them");
    CHECK(refusal(operation, x, Tensor::zeros({3}, DType::f64)) ==
          op + "expected one dtype, got f32[2, 3] and f64[3]; cast() converts");
    CHECK(refusal(operation, x, {}) == op + "expected two tensors, got f32[2, 3] and undefined; assign them first");
    CHECK(refusal(operation, {}, x) == op + "expected two tensors, got undefined and f32[2, 3]; assign them first");
    const Tensor ids = Tensor::zeros({2, 3}, DType::i32);
    CHECK(refusal(operation, ids, ids) == op + "expected a float dtype (f32, bf16, f64), got i32; cast() converts");
    CHECK(refusal(operation, Tensor::zeros({2, 1, 3, 1, 2, 1}), Tensor::zeros({3, 3, 2, 4})) ==
          op + "repeats dimensions in turn, more often than is provided for, to make [2, 1, 3, 3, 2, 4]; broadcast in "
               "two operations");
  }
}

TEST_CASE("binary: a number with an integer or undefined tensor is refused by name") {
  const Tensor ids = Tensor::zeros({2}, DType::i32);
  CHECK_THROWS_WITH(add(ids, 1), "[add] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(sub(1, ids), "[sub] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(mul(ids, 1.0), "[mul] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(div(ids, 1.0f), "[div] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(div(1, ids), "[div] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(div(1, Tensor()), "[div] expected a tensor, got undefined; assign one to it first");
}

TEST_CASE("binary: a number may stand on either side") {
  const Tensor x = Tensor::from({1.5f, -2.0f});
  CHECK(values_of(add(3, x)) == values_of(add(x, 3)));
  CHECK(values_of(mul(0.5, x)) == Values{0.75, -1});
  CHECK(values_of(sub(3, x)) == Values{1.5, 5});
  CHECK(values_of(div(3, x)) == Values{2, -1.5});
}

TEST_CASE("binary: one tensor as both arguments gets both gradients") {
  const Tensor x = Tensor::from({2.0, -3.0}, {2});
  x.set_requires_grad();
  const auto slope = [&](Binary operation) {
    x.clear_grad();
    Tape tape;
    tape.backward(operation(x, x), Tensor::full({2}, 1, DType::f64));
    return values_of(x.grad());
  };
  CHECK(slope(mul) == Values{4, -6});
  CHECK(slope(sub) == Values{0, 0});
  CHECK(slope(div) == Values{0, 0});
}

TEST_CASE("binary: only the argument that wants a gradient gets one") {
  const Tensor a = Tensor::full({2, 3}, 2, DType::f64), b = Tensor::full({3}, 5, DType::f64);
  b.set_requires_grad();
  Tape tape;
  tape.backward(mul(a, b), Tensor::full({2, 3}, 1, DType::f64));
  CHECK_FALSE(a.has_grad());
  CHECK(values_of(b.grad()) == Values{4, 4, 4});
}

TEST_CASE(
    "binary: in bf16, gradients of repeated leaves are f32, of activations and equal shapes bf16, of parameters as "
    "kept") {
  const Tensor x = Tensor::full({1000, 3}, 1, DType::bf16), leaf = Tensor::full({3}, 1, DType::bf16);
  x.set_requires_grad();
  leaf.set_requires_grad();
  const Tensor upstream = Tensor::full({1000, 3}, 1, DType::bf16);
  for (const auto& [name, operation] : kOperations) {
    INFO(name);
    for (const Tensor& t : {x, leaf}) t.clear_grad();
    Tape tape;
    tape.backward(operation(x, leaf), upstream);
    CHECK(leaf.grad().dtype() == DType::f32);
    CHECK(values_of(leaf.grad()) ==
          Values(3, name == kOperations[1].first || name == kOperations[3].first ? -1000 : 1000));
    CHECK(x.grad().dtype() == DType::bf16);
    const Tensor made = Tensor::full({3}, 1, DType::bf16);
    made.set_requires_grad();
    tape.backward(operation(x, scale(made, 1)), upstream);  // 1000 is a bf16 number
    CHECK(made.grad().dtype() == DType::bf16);
    CHECK(values_of(made.grad()) == values_of(leaf.grad()));
  }
  Parameters parameters({.mixed_precision = true});
  const Tensor gain = parameters.add("gain", {1000, 3}, init::constant(1));
  Tape tape;
  tape.backward(mul(x, gain), upstream);
  CHECK(gain.grad().dtype() == DType::f32);
  CHECK(values_of(gain.grad()) == Values(3000, 1));
}

TEST_CASE("binary: a bf16 parameter of the result's own shape gets its f32 gradient") {
  Parameters parameters({.mixed_precision = true});
  const Tensor shift = parameters.add("shift", {7, 3}, init::constant(1));
  const Tensor x = Tensor::full({7, 3}, 1, DType::bf16), upstream = Tensor::full({7, 3}, 5, DType::bf16);
  const auto slope = [&](Binary operation) {
    parameters.clear_gradients();
    parameters.gradients().fill(9);
    Tape tape;
    tape.backward(operation(x, shift), upstream);
    return values_of(shift.grad());
  };
  CHECK(slope(add) == Values(21, 5));
  CHECK(slope(sub) == Values(21, -5));
}

TEST_CASE("binary: the same bits from any number of threads") {
  const Tensor x = Tensor::full({3000, 33}, 0.1), row = Tensor::full({33}, 0.3), column = Tensor::full({3000, 1}, 0.7);
  for (const Tensor& t : {row, column}) t.set_requires_grad();
  const auto gradients = [&] {
    Tape tape;
    const Tensor y = mul(div(x, column), row);
    tape.backward(y, y.detach().clone());
    Values values = values_of(row.grad());
    for (const double value : values_of(column.grad())) values.push_back(value);
    for (const Tensor& t : {row, column}) t.clear_grad();
    return values;
  };
  same_with_any_threads(gradients);
}

}  // namespace libtrain::testing
