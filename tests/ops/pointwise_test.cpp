/// add, scale and the functions of one argument: what the table cannot say.
#include "any_threads.h"
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

double infinity() { return std::numeric_limits<double>::infinity(); }

/// Largest |f(x) - exact(x)| over floats in [-12, 12].
double worst_error(Tensor (*function)(const Tensor&), double (*exact)(double)) {
  std::vector<float> points;
  for (float x = -12; x < 12; x += 0.00037f) points.push_back(x);
  const Values y = values_of(function(Tensor::from(std::span<const float>(points), {int64_t(points.size())})));
  double worst = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double error = std::abs(y[i] - exact(points[i])) / std::max(1.0, std::abs(double(points[i])));
    worst = error <= worst ? worst : error;  // NaN counts
  }
  return worst;
}

/// The gradient of f at `points`, with upstream gradients of 1.
template <class F> Values slope(const Tensor& points, F&& function) {
  points.set_requires_grad();
  Tape tape;
  const Tensor y = function(points);
  tape.backward(y, Tensor::full(y.shape(), 1, y.dtype()));
  return values_of(points.grad());
}

}  // namespace

TEST_CASE("relu: the kink, infinities and NaN") {
  const Tensor x = Tensor::from({-1.0, 0.0, 2.0, -infinity(), infinity(), double(NAN)}, {6});
  const Values y = values_of(relu(x));
  CHECK(std::vector(y.begin(), y.begin() + 5) == Values{0, 0, 2, 0, infinity()});
  CHECK(std::isnan(y[5]));
  CHECK(slope(x, relu) == Values{0, 0, 1, 0, 1, 1});
}

TEST_CASE("gelu: in f32 within 1.5e-7 of the definition, relative to max(1, |x|)") {
  CHECK(worst_error([](const Tensor& x) { return gelu(x); },
                    [](double x) { return x / 2 * std::erfc(-x / std::sqrt(2)); }) <= 1.5e-7);
  CHECK(worst_error([](const Tensor& x) { return gelu(x, GeluForm::kTanh); },
                    [](double x) {
                      const double u = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
                      return x / (1 + std::exp(-2 * u));
                    }) <= 1.5e-7);
}

TEST_CASE("gelu: far arguments give 0 and x, with slopes 0 and 1") {
  for (const GeluForm form : {GeluForm::kErf, GeluForm::kTanh})
    for (const DType dtype : {DType::f32, DType::f64}) {
      const Tensor x = Tensor::from({-1e4, -60.0, 60.0, 1e4}, {4}).cast(dtype);
      const Values y = values_of(gelu(x, form)), dx = slope(x, [&](const Tensor&t) { return gelu(t, form); });
      CHECK((y[0] == 0 && y[1] == 0 && y[2] == 60 && y[3] == 1e4));
      CHECK((dx[0] == 0 && dx[1] == 0 && dx[2] == 1 && dx[3] == 1));
    }
}

TEST_CASE("gelu: the two forms are close, and not the same") {
  const Tensor x = Tensor::from({-3.0, -1.0, 0.5, 2.0}, {4});
  const Values erf = values_of(gelu(x)), tanh = values_of(gelu(x, GeluForm::kTanh));
  for (size_t i = 0; i < 4; ++i) CHECK((erf[i] != tanh[i] && std::abs(erf[i] - tanh[i]) < 5e-4));
}

TEST_CASE("tanh, sigmoid, silu: far arguments saturate, and their slopes keep their precision on the way") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = Tensor::from({-1e4, -20.0, 20.0, 1e4}, {4}).cast(dtype);
    CHECK(values_of(tanh(x))[0] == -1);
    CHECK(values_of(tanh(x))[3] == 1);
    CHECK(values_of(sigmoid(x))[0] == 0);
    CHECK(values_of(sigmoid(x))[3] == 1);
    CHECK(values_of(silu(x))[0] == 0);
    CHECK(values_of(silu(x))[3] == 1e4);
    const auto near = [](double value, double wanted) { return std::abs(value / wanted - 1) < 1e-6; };
    CHECK(near(values_of(sigmoid(x))[1], std::exp(-20)));
    CHECK(near(slope(x, sigmoid)[2], std::exp(-20)));
    CHECK(near(slope(x.clone(), [](const Tensor& t) { return tanh(t); })[2], 4 * std::exp(-40)));
    CHECK(slope(x.clone(), silu)[3] == 1);
  }
}

TEST_CASE("exp, log, sqrt: ends, and what has no result") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = Tensor::from({-infinity(), -1.0, 0.0, infinity(), double(NAN)}, {5}).cast(dtype);
    CHECK(values_of(exp(x))[0] == 0);
    CHECK(values_of(exp(x))[3] == infinity());
    CHECK(values_of(log(x))[2] == -infinity());
    CHECK(values_of(log(x))[3] == infinity());
    CHECK(values_of(sqrt(x))[2] == 0);
    CHECK(values_of(sqrt(x))[3] == infinity());
    for (const size_t i : {0, 1, 4}) CHECK((std::isnan(values_of(log(x))[i]) && std::isnan(values_of(sqrt(x))[i])));
    CHECK(std::isnan(values_of(exp(x))[4]));
    CHECK(slope(Tensor::zeros({1}, dtype), [](const Tensor& t) { return sqrt(t); })[0] == infinity());
  }
}

TEST_CASE("pointwise: the gradient may replace a value that nobody else holds, and leaves one that is held") {
  const Tensor x = Tensor::from({-1.0, 0.5, 2.0}, {3}), held = scale(x, 1);
  x.set_requires_grad();
  Tape tape;
  const Tensor kept = scale(x, 2);
  const Tensor y = add(relu(kept), relu(scale(x, 3)));
  tape.backward(y, Tensor::full({3}, 1, DType::f64));
  CHECK(values_of(x.grad()) == Values{0, 5, 5});
  CHECK(values_of(kept) == Values{-2, 1, 4});
  CHECK(values_of(held) == values_of(x));
}

TEST_CASE("add: one tensor as both arguments gets both gradients") {
  CHECK(slope(Tensor::from({1.0, 2.0}, {2}), [](const Tensor& x) { return add(x, x); }) == Values{2, 2});
}

TEST_CASE("add: the gradient of a bias is kept in f32 and summed there") {
  const Tensor x = Tensor::zeros({1000, 3}, DType::bf16), bias = Tensor::zeros({3}, DType::bf16);
  bias.set_requires_grad();
  Tape tape;
  const Tensor y = add(x, bias);
  tape.backward(y, Tensor::full({1000, 3}, 1, DType::bf16));
  CHECK(bias.grad().dtype() == DType::f32);
  CHECK(values_of(bias.grad()) == Values(3, 1000));
}

TEST_CASE("add: the same bits from any number of threads") {
  const Tensor x = Tensor::full({3000, 33}, 0.1), bias = Tensor::full({33}, 0.3);
  bias.set_requires_grad();
  const auto gradient = [&] {
    Tape tape;
    const Tensor y = add(x, bias);
    tape.backward(y, y.detach().clone());
    const Values values = values_of(bias.grad());
    bias.clear_grad();
    return values;
  };
  same_with_any_threads(gradient);
}

TEST_CASE("pointwise: integers and undefined tensors are refused by name") {
  const auto refused = [](const std::string& op, Tensor (*function)(const Tensor&)) {
    CHECK_THROWS_WITH(function(Tensor::zeros({2}, DType::i32)),
                      "[" + op + "] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
    CHECK_THROWS_AS(function(Tensor()), InvalidArgument);
  };
  refused("tanh", [](const Tensor& x) { return tanh(x); });
  refused("exp", [](const Tensor& x) { return exp(x); });
  refused("log", [](const Tensor& x) { return log(x); });
  refused("sqrt", [](const Tensor& x) { return sqrt(x); });
  refused("sigmoid", sigmoid);
  refused("silu", silu);
  refused("neg", neg);
}

TEST_CASE("add, scale, relu, gelu: arguments are checked") {
  const Tensor x = Tensor::zeros({2, 3}), ids = Tensor::zeros({2, 3}, DType::i32);
  CHECK_THROWS_WITH(add(ids, ids), "[add] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(scale(ids, 2), "[scale] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(relu(ids), "[relu] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(gelu(ids), "[gelu] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_AS(relu(Tensor()), InvalidArgument);
}

}  // namespace libtrain::testing
