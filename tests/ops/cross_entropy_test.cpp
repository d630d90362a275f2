/// cross_entropy and TokenLoss: what the table cannot say.
#include <cmath>

#include "any_threads.h"
#include "catch.h"
#include "compare.h"
#include "libtrain/parameters.h"
#include "ops/loss_inputs.h"

namespace libtrain::testing {
namespace {

using Catch::Matchers::Contains;

Values loss_gradient(const Tensor& logits, const Tensor& targets, double smoothing = 0) {
  logits.set_requires_grad().clear_grad();
  Tape tape;
  tape.backward(cross_entropy(logits, targets, -100, smoothing).sum);
  return values_of(logits.grad());
}

/// Bytes that backward asks for at its highest, beyond what was in use before it.
int64_t backward_bytes(Tape& tape, const Tensor& loss) {
  reset_peak(Device::kCpu);
  const int64_t before = allocator_stats(Device::kCpu).bytes_in_use;
  tape.backward(loss);
  return allocator_stats(Device::kCpu).peak_bytes_in_use - before;
}

}  // namespace

TEST_CASE("cross_entropy: a target outside the vocabulary is named with its place") {
  const Tensor logits = Tensor::zeros({2, 3, 5});
  const auto with = [](int32_t bad) { return Tensor::from<int32_t>({0, 1, 2, 3, bad, -100}, {2, 3}); };
  CHECK_NOTHROW(cross_entropy(logits, with(4)));
  CHECK_THROWS_WITH(cross_entropy(logits, with(5)),
                    "[cross_entropy] target 5 at row 1, position 1 is outside the vocabulary of 5 "
                    "and is not ignore_index (-100); encode with the vocabulary of the model");
  CHECK_THROWS_WITH(cross_entropy(logits, with(-1)), Contains("target -1 at row 1, position 1"));
  CHECK_THROWS_WITH(cross_entropy(logits, with(0), 7), Contains("target -100 at row 1, position 2"));
  CHECK_THROWS_WITH(cross_entropy(Tensor::zeros({2, 5}), ids({0, 9})),
                    Contains("[cross_entropy] target 9 at position 1 is"));
  CHECK_THROWS_AS(cross_entropy(logits, with(5)), InvalidArgument);
}

TEST_CASE("cross_entropy: shapes, dtypes and options are checked") {
  const Tensor logits = Tensor::zeros({2, 3}), targets = ids({0, 1});
  CHECK_THROWS_WITH(cross_entropy(Tensor(), targets),
                    "[cross_entropy] logits must be [..., vocab], got undefined; the last dimension is the classes");
  CHECK_THROWS_WITH(cross_entropy(Tensor::zeros({}), targets),
                    "[cross_entropy] logits must be [..., vocab], got f32[]; the last dimension is the classes");
  CHECK_THROWS_WITH(
      cross_entropy(logits, ids({0})),
      "[cross_entropy] targets must be i32[2], got i32[1]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(cross_entropy(logits, Tensor::zeros({2})),
                    "[cross_entropy] targets must be i32[2], got f32[2]; cast() converts");
  CHECK_THROWS_WITH(cross_entropy(logits, Tensor()),
                    "[cross_entropy] targets must be i32[2], got undefined; assign a tensor to it first");
  CHECK_THROWS_WITH(cross_entropy(Tensor::zeros({2, 0}), targets),
                    "[cross_entropy] expected at least one class, got 0; the last dimension is the classes");
  CHECK_THROWS_WITH(cross_entropy(logits, targets, -100, 1),
                    "[cross_entropy] label_smoothing must be in [0, 1), got 1; 0 turns it off, 0.1 is usual");
  CHECK_THROWS_WITH(cross_entropy(logits, targets, -100, NAN), Contains("label_smoothing must be in [0, 1)"));
  CHECK_THROWS_WITH(cross_entropy(logits.cast(DType::i32), targets),
                    Contains("[cross_entropy] expected a float dtype"));
}

TEST_CASE("cross_entropy: known values") {
  const Tensor logits = Tensor::from<double>({0, 0, 0, 0, 1000, 0, 0, 0}, {2, 4});
  const TokenLoss loss = cross_entropy(logits, ids({3, 1}));
  CHECK(loss.sum.item() == Approx(std::log(4) + 1000).epsilon(1e-14));
  CHECK(loss.count.item() == 2);
  CHECK(loss.mean().item() == Approx((std::log(4) + 1000) / 2).epsilon(1e-14));
  // A confident row loses almost nothing, and that little is not rounded away.
  CHECK(cross_entropy(Tensor::from<float>({20, 0}, {1, 2}), ids({0})).sum.item() ==
        Approx(std::exp(-20.)).margin(1e-8));
  CHECK(cross_entropy(Tensor::from<float>({1e30f, 1e30f}, {1, 2}), ids({0})).sum.item() == Approx(std::log(2)));
  // PyTorch's smoothing: (1 - s) nll + s mean(-log p) = 0.8 · 1.4401897 + 0.2 · 1.9401897
  const Tensor row = Tensor::from<double>({0, 1, 2, 1}, {1, 4});
  const double lse = std::log(1 + 2 * std::exp(1) + std::exp(2));
  CHECK(cross_entropy(row, ids({1}), -100, 0.2).sum.item() == Approx(0.8 * (lse - 1) + 0.2 * (lse - 1)).epsilon(1e-14));
  CHECK(cross_entropy(row, ids({2}), -100, 0.2).sum.item() == Approx(0.8 * (lse - 2) + 0.2 * (lse - 1)).epsilon(1e-14));
}

TEST_CASE("cross_entropy: any leading dimensions") {
  const Tensor logits = random({2, 3, 1, 2, 5}), targets = random_targets(12, 5);
  const TokenLoss loss = cross_entropy(logits, targets.reshape({2, 3, 1, 2}));
  CHECK(loss.sum.item() == cross_entropy(logits.reshape({12, 5}), targets).sum.item());
  CHECK(loss.count.item() == 10);
  CHECK(cross_entropy(logits.reshape({60}).rows(0, 5), Tensor::from<int32_t>({4}, {})).count.item() == 1);
}

TEST_CASE("cross_entropy: classes masked by -inf take no part") {
  const Tensor masked = Tensor::from<double>({1, -kInf, 2, -kInf, -kInf, 0.5}, {2, 3}), targets = ids({2, 2});
  CHECK(cross_entropy(masked, targets).sum.item() == Approx(std::log(1 + std::exp(-1.))).epsilon(1e-14));
  const Values gradient = loss_gradient(masked, targets);
  const double p = 1 / (1 + std::exp(-1.));
  CHECK(worst_difference(gradient, {1 - p, 0, p - 1, 0, 0, 0}) <= 1e-15);
  CHECK(cross_entropy(masked, targets, -100, 0.1).sum.item() == kInf);
  CHECK(cross_entropy(masked, ids({1, 2})).sum.item() == kInf);
  CHECK(std::isnan(cross_entropy(Tensor::full({1, 3}, -kInf), ids({0})).sum.item()));
}

TEST_CASE("cross_entropy: when everything is ignored, loss, mean and gradients are zero, whatever the logits") {
  const Tensor logits = Tensor::from<double>({NAN, kInf, 3, -kInf, 1, 2}, {2, 3});
  const TokenLoss loss = cross_entropy(logits, ids({-100, -100}));
  CHECK(loss.sum.item() == 0);
  CHECK(loss.count.item() == 0);
  CHECK(loss.mean().item() == 0);
  CHECK(loss_gradient(logits, ids({-100, -100})) == Values(6, 0));
  logits.clear_grad();
  Tape tape;
  tape.backward(cross_entropy(logits, ids({-100, -100}), -100, 0.1).mean());
  CHECK(values_of(logits.grad()) == Values(6, 0));
}

TEST_CASE("cross_entropy: an ignored row gets gradient zero and leaves an accumulated one alone") {
  const Tensor logits = random({3, 4});
  const Values once = loss_gradient(logits, ids({1, -100, 2}));
  CHECK(Values(once.begin() + 4, once.begin() + 8) == Values(4, 0));
  {
    Tape tape;
    tape.backward(cross_entropy(logits, ids({-100, 3, -100})).sum);
  }
  const Values both = values_of(logits.grad());
  CHECK(worst_difference(both, loss_gradient(logits, ids({1, 3, 2}))) <= 1e-15);
}

TEST_CASE("cross_entropy: a weighted loss weighs its gradient") {
  const Tensor logits = random({3, 4}), targets = ids({1, 0, 2});
  Values expected = loss_gradient(logits, targets, 0.1);
  for (double& value : expected) value *= -2.5;
  logits.clear_grad();
  Tape tape;
  tape.backward(cross_entropy(logits, targets, -100, 0.1).sum, Tensor::full({}, -2.5, DType::f64));
  CHECK(worst_difference(values_of(logits.grad()), expected) <= 1e-14);
}

TEST_CASE("cross_entropy: the logits' memory takes their gradient only when nobody else can see it") {
  const Tensor x = random({64, 8}), weight = random({1000, 8}, DType::f64, 4), targets = random_targets(64, 1000);
  const int64_t logits_bytes = 64 * 1000 * 8;
  weight.set_requires_grad();
  const auto gradient = [&](bool hold, int64_t& bytes) {
    weight.clear_grad();
    Tape tape;
    Tensor logits = linear(x, weight);
    const Tensor loss = cross_entropy(logits, targets).sum;
    const Values before = values_of(logits);
    const Tensor held = hold ? logits : Tensor();
    logits = {};
    bytes = backward_bytes(tape, loss);
    if (hold) CHECK(values_of(held) == before);
    return values_of(weight.grad());
  };
  int64_t alone = 0, held = 0;
  const Values in_place = gradient(false, alone), beside = gradient(true, held);
  CHECK(in_place == beside);
  CHECK(alone < logits_bytes);
  CHECK(held >= logits_bytes);
}

TEST_CASE("cross_entropy: a slice of the logits held by the caller keeps its values") {
  const Tensor x = random({6, 8}), weight = random({10, 8}, DType::f64, 4);
  weight.set_requires_grad();
  Tape tape;
  Tensor logits = linear(x, weight);
  const Tensor first = logits.detach().rows(0, 1), loss = cross_entropy(logits, random_targets(6, 10)).sum;
  const Values before = values_of(first);
  logits = {};
  tape.backward(loss);
  CHECK(values_of(first) == before);
}

TEST_CASE("cross_entropy: logits that another operation reads as well get the gradients of both") {
  const Tensor x = random({6, 8}), weight = random({10, 8}, DType::f64, 4), targets = random_targets(6, 10);
  const Tensor left = random({1, 6}, DType::f64, 5), right = random({10, 1}, DType::f64, 6);
  weight.set_requires_grad();
  for (const bool loss_first : {false, true}) {
    double loss = 0, form = 0;
    weight.clear_grad();
    {
      Tape tape;
      const auto product = [&] {  // of the loss and a bilinear form of the logits
        const Tensor logits = linear(x, weight);
        const auto loss_of = [&] { return cross_entropy(logits, targets).sum.reshape({1, 1}); };
        const auto form_of = [&] { return matmul(left, matmul(logits, right)); };
        const Tensor first = loss_first ? loss_of() : form_of(), second = loss_first ? form_of() : loss_of();
        loss = (loss_first ? first : second).item();
        form = (loss_first ? second : first).item();
        return matmul(first, second);
      };
      tape.backward(product());
    }
    const Values both = values_of(weight.grad());
    const auto gradient_of = [&](auto scalar) {
      weight.clear_grad();
      Tape tape;
      tape.backward(scalar(linear(x, weight)));
      return values_of(weight.grad());
    };
    const Values of_loss = gradient_of([&](const Tensor& logits) { return cross_entropy(logits, targets).sum; });
    const Values of_form = gradient_of([&](const Tensor& logits) { return matmul(left, matmul(logits, right)); });
    for (size_t i = 0; i < both.size(); ++i) CHECK(std::abs(both[i] - form * of_loss[i] - loss * of_form[i]) <= 1e-11);
  }
}

TEST_CASE("cross_entropy: gradients made along with the losses are those that backward makes for 1") {
  const int64_t rows = 11, vocab = 7;
  const Tensor logits = random({rows, vocab}), targets = random_targets(rows, vocab), losses({rows}, DType::f64);
  const Values expected = loss_gradient(logits, targets, 0.1);
  const Tensor in_place = logits.clone();
  const kernels::CrossEntropy<double> args{in_place.view<const double>(), targets.view<const int32_t>(), {}, -100, 0.1};
  on(Device::kCpu, [&](auto device) {
    kernels::cross_entropy_forward(device, args, losses.view<double>(), in_place.view<double>());
  });
  CHECK(values_of(in_place) == expected);
  CHECK(values_of(losses.rows(2, 3)) == Values{0});  // an ignored row
}

TEST_CASE("cross_entropy: many f32 rows are summed without drift, and the same for any number of threads") {
  const Tensor logits = random({200001, 3}, DType::f32), targets = Tensor::zeros({200001}, DType::i32);
  const double exact = cross_entropy(logits.cast(DType::f64), targets).sum.item();
  const double sum = same_with_any_threads([&] { return cross_entropy(logits, targets).sum.item(); });
  CHECK(sum == Approx(exact).epsilon(1e-6));
}

TEST_CASE("TokenLoss: the mean divides loss and gradient by the count") {
  const Tensor logits = random({4, 5}), targets = ids({1, -100, 0, 4});
  Values expected = loss_gradient(logits, targets);
  for (double& value : expected) value *= 2.0 / 3;
  logits.clear_grad();
  Tape tape;
  const TokenLoss loss = cross_entropy(logits, targets);
  const Tensor mean = loss.mean();
  CHECK(mean.item() == Approx(loss.sum.item() / 3).epsilon(1e-14));
  tape.backward(mean, Tensor::full({}, 2, DType::f64));
  CHECK(worst_difference(values_of(logits.grad()), expected) <= 1e-15);
}

TEST_CASE("TokenLoss: sum and count are checked") {
  CHECK_THROWS_WITH((TokenLoss{Tensor::zeros({2}), Tensor::zeros({}, DType::i64)}.mean()),
                    "[token_loss] sum must be a scalar, got f32[2]; sum() reduces");
  CHECK_THROWS_WITH((TokenLoss{Tensor::zeros({}), Tensor::zeros({}, DType::i32)}.mean()),
                    "[token_loss] count must be i64[], got i32[]; cast() converts");
  CHECK_THROWS_WITH(TokenLoss{}.mean(), Contains("[token_loss] sum must be a scalar, got undefined"));
}

TEST_CASE("losses add up in the step state") {
  StepState state;
  const Tensor sum = Tensor::full({}, 2.5), count = Tensor::full({}, 4, DType::i64);
  for (int i = 0; i < 2; ++i)
    on(Device::kCpu, [&](auto device) {
      kernels::accumulate_loss(device, sum.view<const float>(), count.view<const int64_t>(), View<StepState>{&state});
    });
  CHECK(state.loss_sum == 5);
  CHECK(state.loss_count == 8);
}

}  // namespace libtrain::testing
