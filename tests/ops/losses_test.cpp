/// binary_cross_entropy_with_logits and mse_loss: what the table cannot say.
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {
namespace {

/// The loss of one element, and its slope.
std::pair<double, double> loss_of(double logit, double target, DType dtype) {
  const Tensor x = Tensor::from({logit}, {1}).cast(dtype), z = Tensor::from({target}, {1}).cast(dtype);
  x.set_requires_grad();
  Tape tape;
  const Tensor loss = binary_cross_entropy_with_logits(x, z);
  tape.backward(loss);
  return {loss.item(), values_of(x.grad())[0]};
}

}  // namespace

TEST_CASE("binary_cross_entropy_with_logits: sure and right costs next to nothing, sure and wrong the logit") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    CHECK(loss_of(20, 1, dtype).first == Approx(std::exp(-20)).epsilon(1e-6));
    CHECK(loss_of(-20, 0, dtype).first == Approx(std::exp(-20)).epsilon(1e-6));
    CHECK(loss_of(1e4, 1, dtype) == std::pair<double, double>(0, 0));
    CHECK(loss_of(1e4, 0, dtype) == std::pair<double, double>(1e4, 1));
    CHECK(loss_of(-1e4, 1, dtype) == std::pair<double, double>(1e4, -1));
    CHECK(loss_of(0, 0.5, dtype).first == Approx(std::log(2)).epsilon(1e-6));
    CHECK(loss_of(0, 0.5, dtype).second == 0);
  }
}

TEST_CASE("binary_cross_entropy_with_logits: soft targets have the least loss where the probabilities are equal") {
  const double x = std::log(0.3 / 0.7);
  CHECK(std::abs(loss_of(x, 0.3, DType::f64).second) < 1e-15);
  CHECK(loss_of(x, 0.3, DType::f64).first == Approx(-0.3 * std::log(0.3) - 0.7 * std::log(0.7)).epsilon(1e-12));
}

TEST_CASE("losses: the mean of no elements is NaN, and bf16 is averaged in f32") {
  const Tensor none = Tensor::zeros({0}), ones = Tensor::full({1000}, 1, DType::bf16);
  CHECK(std::isnan(mse_loss(none, none).item()));
  CHECK(std::isnan(binary_cross_entropy_with_logits(none, none).item()));
  const Tensor loss = mse_loss(ones, Tensor::zeros({1000}, DType::bf16));
  CHECK(loss.spec() == "f32[]");
  CHECK(loss.item() == 1);
}

TEST_CASE("losses: a loop takes them as they are") {
  struct Numbers : BatchSource<Tensor> {
    int64_t begin_epoch(int64_t) override { return 8; }
    Tensor get(int64_t) override { return Tensor::from({1.0f, 0.0f, 0.0f, 1.0f}, {2, 2}); }
  } numbers;
  Parameters parameters({.seed = 3});
  const Linear layer(parameters, "layer", 2, 1);
  const Tensor targets = Tensor::from({1.0f, 0.0f}, {2, 1});
  TrainOptions options{.epochs = 30};
  options.adam.learning_rate = 0.1;
  TrainLoop loop(
      parameters, numbers, [&](const Tensor& x) { return binary_cross_entropy_with_logits(layer(x), targets); },
      options);
  double last = 1;
  loop.on_epoch([&](const EpochReport& epoch) { last = epoch.loss; });
  loop.run();
  CHECK(last < 0.01);
}

TEST_CASE("losses: arguments are checked") {
  const Tensor x = Tensor::zeros({2, 3}), ids = Tensor::zeros({2, 3}, DType::i32);
  CHECK_THROWS_WITH(
      mse_loss(x, Tensor::zeros({3})),
      "[mse_loss] targets must be f32[2, 3], got f32[3]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(mse_loss(x, {}),
                    "[mse_loss] targets must be f32[2, 3], got undefined; assign a tensor to it first");
  CHECK_THROWS_WITH(mse_loss({}, x), "[mse_loss] expected predictions, got undefined; assign a tensor to them first");
  CHECK_THROWS_WITH(mse_loss(ids, ids), "[mse_loss] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  CHECK_THROWS_WITH(binary_cross_entropy_with_logits(x, Tensor::zeros({2, 3}, DType::f64)),
                    "[binary_cross_entropy_with_logits] targets must be f32[2, 3], got f64[2, 3]; cast() converts");
  CHECK_THROWS_WITH(binary_cross_entropy_with_logits({}, x),
                    "[binary_cross_entropy_with_logits] expected logits, got undefined; assign a tensor to them first");
  CHECK_THROWS_WITH(
      binary_cross_entropy_with_logits(ids, ids),
      "[binary_cross_entropy_with_logits] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
}

}  // namespace libtrain::testing
