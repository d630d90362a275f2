/// cast(): not in the table, whose rows keep one dtype.
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

using Catch::Matchers::Contains;

const std::vector<double> kGradient{1.00390625, -3, 0.1, 1e-3, 7, 2.5};  // not all of which bf16 or f32 hold

Tensor f64_of(const std::vector<double>& values) { return Tensor::from(values, {2, 3}); }

/// Tensor::cast() of `values`, which the operation must agree with in either direction.
Values rounded(const std::vector<double>& values, DType from, DType to) {
  return values_of(f64_of(values).cast(from).cast(to));
}

}  // namespace

TEST_CASE("cast: elements are rounded to the dtype, gradients to that of x, for all pairs of float dtypes") {
  const DType from = GENERATE(DType::f32, DType::bf16, DType::f64), to = GENERATE(DType::f32, DType::bf16, DType::f64);
  if (from == to) return;
  const Tensor x = f64_of({0.1, -2, 3.14159, 65504.5, 1e-8, 0}).cast(from);
  x.set_requires_grad();
  Tape tape;
  const Tensor y = cast(x, to);
  CHECK(y.spec() == std::string(name(to)) + "[2, 3]");
  CHECK(values_of(y.detach()) == values_of(x.cast(to)));
  tape.backward(y, f64_of(kGradient).cast(to));
  CHECK(x.grad().dtype() == from);
  CHECK(values_of(x.grad()) == rounded(kGradient, to, from));
}

TEST_CASE("cast: its gradient adds to what is there, and a tensor of that dtype is returned as it is") {
  const Tensor x = f64_of({1, 2, 3, 4, 5, 6});
  x.set_requires_grad();
  CHECK(cast(x, DType::f64).node_handle() == x.node_handle());
  Tape tape;
  const Tensor y = add(scale(x, 10), cast(cast(x, DType::f32), DType::f64));
  tape.backward(y, f64_of({1, 2, 3, 4, 5, 6}));
  CHECK(values_of(x.grad()) == Values{11, 22, 33, 44, 55, 66});
}

TEST_CASE("cast: with mixed precision, layers before and behind a mean in f32 learn") {
  Parameters parameters({.mixed_precision = true});
  const Linear before(parameters, "before", 4, 8), behind(parameters, "behind", 8, 3);
  const Tensor x = Tensor::full({6, 4}, 0.5, DType::bf16);
  Tape tape;
  const Tensor pooled = mean(before(x).reshape({2, 3, 8}), 1);
  CHECK(pooled.dtype() == DType::f32);
  CHECK_THROWS_WITH(behind(pooled), Contains("cast() converts"));
  tape.backward(sum(behind(cast(pooled, DType::bf16))));
  for (const Parameters::Slot& slot : parameters.slots()) {
    INFO(slot.name);
    REQUIRE(slot.value.has_grad());
    double largest = 0;
    for (const double value : values_of(slot.value.grad())) largest = std::max(largest, std::fabs(value));
    CHECK(largest > 0);
  }
}

TEST_CASE("cast: integers are refused, and told what converts them") {
  const char* const remedy = "the method x.cast() converts integers, and is not differentiable";
  CHECK_THROWS_WITH(
      cast(Tensor::zeros({2}, DType::i32), DType::f32),
      Contains("[cast] expected to convert a float dtype to another, got i32[2] and f32") && Contains(remedy));
  CHECK_THROWS_WITH(cast(Tensor::zeros({2}), DType::i64), Contains("got f32[2] and i64"));
  CHECK_THROWS_WITH(cast(Tensor(), DType::f32), Contains("got undefined and f32"));
}

TEST_CASE("methods that no tape sees refuse what one has recorded, until it ends") {
  const Tensor x = Tensor::full({4, 2}, 1);
  x.set_requires_grad();
  Tensor y;
  {
    Tape tape;
    y = scale(x, 2);
    CHECK_THROWS_WITH(y.rows(0, 2),
                      "[rows] f32[4, 2] was recorded by a tape, which would not see this method: nothing "
                      "before it would be learnt; use slice(), or detach().rows(…) if no gradient is wanted");
    CHECK_THROWS_WITH(y.cast(DType::bf16), Contains("use the function cast(x, dtype), or detach().cast(…) if"));
    CHECK_THROWS_WITH(y.to(Device::kCpu), Contains("learnt; use detach().to(…) if no gradient is wanted"));
    CHECK_THROWS_WITH(y.clone(), Contains("[clone]") && Contains("learnt; use scale(x, 1), or detach().clone(…) if"));
    CHECK(values_of(y.detach().rows(0, 1)) == Values{2, 2});
    CHECK(values_of(y.detach().cast(DType::f64)) == Values(8, 2));
    CHECK_FALSE(y.str().empty());
    CHECK(x.rows(0, 1).numel() == 2);  // a leaf
    const NoTape pause;
    CHECK(values_of(y.rows(0, 1)) == Values{2, 2});
    CHECK(scale(x, 2).rows(0, 1).numel() == 2);
  }
  CHECK(values_of(y.rows(0, 1)) == Values{2, 2});
}

}  // namespace libtrain::testing
