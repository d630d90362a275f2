/// softmax and log_softmax: what the table cannot say.
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

double infinity() { return std::numeric_limits<double>::infinity(); }

}  // namespace

TEST_CASE("softmax: large and masked elements") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = Tensor::from({1e4, 1e4, -infinity(), -1e4}, {4}).cast(dtype);
    CHECK(values_of(softmax(x)) == Values{0.5, 0.5, 0, 0});
    const Values log = values_of(log_softmax(x));
    CHECK(std::abs(log[0] - std::log(0.5)) < 1e-3);
    CHECK(log[2] == -infinity());
    CHECK(log[3] == Approx(-2e4 - std::log(2)));
  }
}

TEST_CASE("softmax: nothing but -inf, a +inf or a NaN give NaN") {
  for (const double value : {-infinity(), infinity(), double(NAN)}) {
    const Tensor x = Tensor::from({value, -infinity()}, {2});
    for (const Tensor& y : {softmax(x), log_softmax(x)}) CHECK(std::isnan(values_of(y)[0]));
  }
}

TEST_CASE("softmax: masked elements get gradient 0, not NaN") {
  const Tensor x = Tensor::from({0.5, -infinity(), 1.5}, {3});
  x.set_requires_grad();
  Tape tape;
  tape.backward(softmax(x), Tensor::from({1.0, 2.0, 3.0}, {3}));
  const Values dx = values_of(x.grad());
  CHECK((dx[1] == 0 && std::abs(dx[0] + dx[2]) < 1e-15 && dx[2] > 0));
}

TEST_CASE("softmax: a consumer whose gradient may replace its input leaves the result that backward reads") {
  for (const bool log : {false, true}) {
    const auto gradient = [&](bool held) {
      const Tensor x = Tensor::from({0.5, -1.0, 1.5}, {3});
      x.set_requires_grad();
      Tape tape;
      const Tensor kept = log ? log_softmax(x) : softmax(x);
      const Tensor y = scale(held ? kept : log ? log_softmax(x) : softmax(x), 2);
      tape.backward(y, Tensor::from({1.0, 2.0, 3.0}, {3}));
      return values_of(x.grad());
    };
    CHECK(gradient(false) == gradient(true));
  }
}

TEST_CASE("softmax: arguments are checked") {
  const Tensor x = Tensor::zeros({2, 3}), ids = Tensor::zeros({2, 3}, DType::i32);
  CHECK_THROWS_WITH(softmax(ids), "[softmax] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(log_softmax(ids),
                    "[log_softmax] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(
      softmax(x, 2),
      "[softmax] expected one of the 2 dimensions of f32[2, 3], got 2; they count from 0, or back from -1");
  CHECK_THROWS_WITH(
      log_softmax(x, -3),
      "[log_softmax] expected one of the 2 dimensions of f32[2, 3], got -3; they count from 0, or back from -1");
  CHECK_THROWS_WITH(softmax(Tensor::full({}, 1)),
                    "[softmax] expected one of the 0 dimensions of f32[], got -1; they count from 0, or back from -1");
  CHECK_THROWS_WITH(softmax(Tensor()), "[softmax] expected a tensor, got undefined; assign one to it first");
}

}  // namespace libtrain::testing
