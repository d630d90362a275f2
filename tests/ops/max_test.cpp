/// max: what the table cannot say.
#include <algorithm>

#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {

TEST_CASE("max: of several that are equal the first is named, and gets the gradient") {
  const Tensor x = Tensor::from({3.0, 5.0, 5.0, -1.0, -1.0, -2.0}, {2, 3});
  x.set_requires_grad();
  Tape tape;
  const MaxResult result = max(x, 1);
  CHECK(result.indices.spec() == "i32[2]");
  CHECK(values_of(result.indices) == Values{1, 0});
  tape.backward(result.values, Tensor::from({7.0, 8.0}, {2}));
  CHECK(values_of(x.grad()) == Values{0, 7, 0, 8, 0, 0});
  x.clear_grad();
  const MaxResult columns = max(x, -2);
  CHECK(values_of(columns.indices) == Values{0, 0, 0});
  tape.backward(columns.values, Tensor::from({1.0, 2.0, 3.0}, {3}));
  CHECK(values_of(x.grad()) == Values{1, 2, 3, 0, 0, 0});
}

TEST_CASE("max: NaN is largest, and of several the first, and of nothing but -inf too") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const Tensor x = Tensor::from({1.0, double(NAN), double(NAN), infinity}, {4}).cast(dtype);
    for (const Tensor& t : {x, x.reshape({4, 1}), x.reshape({1, 4})}) {
      const MaxResult result = max(t, t.dim(0) == 4 ? 0 : 1);
      CHECK(values_of(result.indices) == Values{1});
      CHECK(std::isnan(values_of(result.values)[0]));
    }
    CHECK(values_of(max(Tensor::full({3}, -infinity, dtype), 0).indices) == Values{0});
    const Tensor pairs =
        Tensor::from({1.0, -infinity, double(NAN), -infinity, double(NAN), -infinity}, {3, 2}).cast(dtype);
    CHECK(values_of(max(pairs, 0).indices) == Values{1, 0});
  }
}

TEST_CASE("max: arguments are checked") {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH(max(x, 2),
                    "[max] expected one of the 2 dimensions of f32[2, 3], got 2; they count from 0, or back from -1");
  CHECK_THROWS_WITH(max(Tensor::zeros({2, 0}), 1),
                    "[max] expected at least one element and fewer than 2^31 along dimension 1 of f32[2, 0]; reduce "
                    "another dimension");
  CHECK_THROWS_WITH(max(Tensor::zeros({2}, DType::i32), 0),
                    "[max] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(max(Tensor(), 0), "[max] expected a tensor, got undefined; assign one to it first");
}

}  // namespace libtrain::testing
