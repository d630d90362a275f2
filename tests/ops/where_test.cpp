/// where and masked_fill: what the table cannot say.
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

Tensor mask_of(std::initializer_list<int32_t> values) { return Tensor::from(values, {int64_t(values.size())}); }

}  // namespace

TEST_CASE("where: every number but 0 is true, and what is not chosen counts for nothing") {
  const double infinity = std::numeric_limits<double>::infinity();
  const Tensor a = Tensor::from({1.0, double(NAN), 3.0}, {3}), b = Tensor::from({infinity, 5.0, double(NAN)}, {3});
  for (const Tensor& t : {a, b}) t.set_requires_grad();
  Tape tape;
  const Tensor y = where(mask_of({-7, 0, 2}), a, b);
  CHECK(values_of(y) == Values{1, 5, 3});
  tape.backward(y, Tensor::from({10.0, 20.0, 30.0}, {3}));
  CHECK(values_of(a.grad()) == Values{10, 0, 30});
  CHECK(values_of(b.grad()) == Values{0, 20, 0});
}

TEST_CASE("masked_fill: -infinity before a softmax, gradient 0 where it fills") {
  const Tensor x = Tensor::from({1.0, 2.0, double(NAN), 1.0}, {2, 2});
  x.set_requires_grad();
  Tape tape;
  const Tensor y = softmax(masked_fill(x, Tensor::from<int32_t>({0, 1, 1, 0}, {2, 2}), -INFINITY));
  CHECK(values_of(y) == Values{1, 0, 0, 1});
  tape.backward(y, Tensor::full({2, 2}, 3, DType::f64));
  CHECK(values_of(x.grad()) == Values{0, 0, 0, 0});
}

TEST_CASE("where and masked_fill: arguments are checked") {
  const Tensor x = Tensor::zeros({2, 3}), mask = Tensor::zeros({2, 3}, DType::i32);
  CHECK_THROWS_WITH(where(x, x, x), "[where] expected a mask in i32, 0 or 1, got f32[2, 3]; cast() converts");
  CHECK_THROWS_WITH(where({}, x, x), "[where] expected a mask in i32, 0 or 1, got undefined; cast() converts");
  CHECK_THROWS_WITH(where(mask, x, {}), "[where] expected two tensors, got f32[2, 3] and undefined; assign them first");
  CHECK_THROWS_WITH(where(mask, x, Tensor::zeros({2, 3}, DType::f64)),
                    "[where] expected one dtype, got f32[2, 3] and f64[2, 3]; cast() converts");
  CHECK_THROWS_WITH(
      where(mask, x, Tensor::zeros({2})),
      "[where] expected sizes that are equal or 1, got [2, 3] and [2]: 3 against 2 in dimension -1 (did you mean "
      "to reshape [2] to [2, 1]?)");
  CHECK_THROWS_WITH(where(mask_of({1, 0}), x, x),
                    "[where] expected sizes that are equal or 1, got [2, 3] and [2]: 3 against 2 in dimension -1 (did "
                    "you mean to reshape [2] to [2, 1]?)");
  CHECK_THROWS_WITH(where(mask, mask, mask),
                    "[where] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(masked_fill(x, x, 0),
                    "[masked_fill] expected a mask in i32, 0 or 1, got f32[2, 3]; cast() converts");
  CHECK_THROWS_WITH(masked_fill({}, mask, 0), "[masked_fill] expected a tensor, got undefined; assign one to it first");
  CHECK_THROWS_WITH(masked_fill(mask, mask, 0),
                    "[masked_fill] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(masked_fill(x, Tensor::zeros({4, 2, 3}, DType::i32), 0),
                    "[masked_fill] expected a mask that is no larger than x, got i32[4, 2, 3] and f32[2, 3]; where() "
                    "broadcasts both ways");
  CHECK_THROWS_WITH(masked_fill(x, mask_of({1, 0}), 0),
                    "[masked_fill] expected sizes that are equal or 1, got [2, 3] and [2]: 3 against 2 in dimension "
                    "-1 (did you mean to reshape [2] to [2, 1]?)");
}

}  // namespace libtrain::testing
