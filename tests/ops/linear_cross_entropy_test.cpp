/// linear_cross_entropy: what the table cannot say.
#include <cmath>

#include "catch.h"
#include "compare.h"
#include "ops/loss_inputs.h"

namespace libtrain::testing {
using Catch::Matchers::Contains;

TEST_CASE("linear_cross_entropy: the same loss and gradients as in two operations, for any chunk size") {
  const int64_t rows = 37, size = 9, vocab = 23;
  const Tensor x = random({rows, size}), weight = random({vocab, size}, DType::f64, 4),
               bias = random({vocab}, DType::f64, 5);
  const Tensor targets = random_targets(rows, vocab);
  for (const Tensor& leaf : {x, weight, bias}) leaf.set_requires_grad();
  const auto results = [&](auto loss_of) {
    for (const Tensor& leaf : {x, weight, bias}) leaf.clear_grad();
    Tape tape;
    const TokenLoss loss = loss_of();
    tape.backward(loss.mean());
    return Inputs{values_of(loss.sum), values_of(loss.count), values_of(x.grad()), values_of(weight.grad()),
                  values_of(bias.grad())};
  };
  const Inputs expected = results([&] { return cross_entropy(linear(x, weight, bias), targets, -100, 0.1); });
  for (const int64_t chunk :
       {int64_t(1), vocab, 2 * vocab, 5 * vocab + 3, rows * vocab - 1, rows * vocab, int64_t(1) << 40}) {
    INFO("chunk_elements " << chunk);
    const Inputs actual = results([&] { return linear_cross_entropy(x, weight, bias, targets, -100, 0.1, chunk); });
    for (size_t i = 0; i < expected.size(); ++i) CHECK(worst_difference(actual[i], expected[i]) <= 1e-12);
  }
}

TEST_CASE("linear_cross_entropy: chunks never hold more logits than asked for, and none of rows that are ignored") {
  const int64_t rows = 512, vocab = 1000, logits_bytes = rows * vocab * 4;
  const Tensor x = random({rows, 4}, DType::f32), weight = random({vocab, 4}, DType::f32, 4);
  weight.set_requires_grad();
  const auto peak = [&](const Tensor& targets, int64_t chunk_elements) {
    weight.clear_grad();
    reset_peak(Device::kCpu);
    const int64_t before = allocator_stats(Device::kCpu).bytes_in_use;
    Tape tape;
    tape.backward(linear_cross_entropy(x, weight, {}, targets, -100, 0, chunk_elements).sum);
    return allocator_stats(Device::kCpu).peak_bytes_in_use - before;
  };
  Tensor targets = Tensor::full({rows}, 7, DType::i32);
  CHECK(peak(targets, 1 << 22) >= logits_bytes);
  CHECK(peak(targets, 1 << 22) < 3 * logits_bytes / 2);
  CHECK(peak(targets, rows * vocab / 8) < logits_bytes / 4);
  targets.rows(rows / 8, rows).fill(-100);
  CHECK(peak(targets, 1 << 22) < logits_bytes / 4);
}

TEST_CASE("linear_cross_entropy: unless told otherwise a chunk on the CPU has 128 rows of a large vocabulary") {
  const auto peak = [](int64_t rows, int64_t vocab) {
    const Tensor x = random({rows, 1}, DType::f32), weight = random({vocab, 1}, DType::f32, 4);
    weight.set_requires_grad();
    const Tensor targets = Tensor::full({rows}, 7, DType::i32);
    reset_peak(Device::kCpu);
    const int64_t before = allocator_stats(Device::kCpu).bytes_in_use;
    Tape tape;
    tape.backward(linear_cross_entropy(x, weight, {}, targets).sum);
    return allocator_stats(Device::kCpu).peak_bytes_in_use - before;
  };
  const int64_t wide = 128 * 40000 * 4, narrow = (1 << 22) * 4;
  CHECK(peak(256, 40000) >= wide);
  CHECK(peak(256, 40000) < 5 * wide / 4);
  CHECK(peak(2 << 14, 256) >= narrow);
  CHECK(peak(2 << 14, 256) < 5 * narrow / 4);
}

TEST_CASE("linear_cross_entropy: what stands in an ignored row does not matter") {
  const Tensor x = random({6, 5}), weight = random({9, 5}, DType::f64, 4), targets = ids({3, -100, 0, -100, 8, 2});
  for (const Tensor& leaf : {x, weight}) leaf.set_requires_grad();
  const auto results = [&](int64_t chunk_elements) {
    for (const Tensor& leaf : {x, weight}) leaf.clear_grad();
    Tape tape;
    const TokenLoss loss = linear_cross_entropy(x, weight, {}, targets, -100, 0.1, chunk_elements);
    tape.backward(loss.mean());
    return Inputs{values_of(loss.sum), values_of(loss.count), values_of(x.grad()), values_of(weight.grad())};
  };
  for (const int64_t chunk_elements : {1 << 22, 2 * 9}) {
    const Inputs expected = results(chunk_elements);
    x.rows(1, 2).fill(kInf);
    x.rows(3, 4).fill(std::nan(""));
    CHECK(results(chunk_elements) == expected);
    CHECK(expected[1] == Values{4});
    x.rows(1, 2).fill(1);
    x.rows(3, 4).fill(2);
  }
}

TEST_CASE("linear_cross_entropy: gradients made along with the losses are multiplied by what arrives, and added up") {
  const int64_t rows = 12, vocab = 9, chunk_elements = GENERATE(2 * 9, 1 << 22);  // several chunks, one
  const Tensor x = random({rows, 5}), weight = random({vocab, 5}, DType::f64, 4), targets = random_targets(rows, vocab);
  for (const Tensor& leaf : {x, weight}) leaf.set_requires_grad();
  const auto backward_with = [&](double dsum) {
    Tape tape;
    tape.backward(linear_cross_entropy(x, weight, {}, targets, -100, 0, chunk_elements).sum,
                  Tensor::full({1}, dsum, DType::f64).reshape({}));
  };
  backward_with(1);
  const Values dx = values_of(x.grad()), dweight = values_of(weight.grad());
  backward_with(2.5);  // on top of the first
  for (size_t i = 0; i < dx.size(); ++i) CHECK(values_of(x.grad())[i] == Approx(3.5 * dx[i]).epsilon(1e-12));
  for (size_t i = 0; i < dweight.size(); ++i)
    CHECK(values_of(weight.grad())[i] == Approx(3.5 * dweight[i]).epsilon(1e-12));
}

TEST_CASE("linear_cross_entropy: nothing is kept where nothing is recorded") {
  const Tensor x = random({512, 4}, DType::f32), weight = random({1000, 4}, DType::f32, 4);
  const int64_t before = allocator_stats(Device::kCpu).bytes_in_use;
  const TokenLoss loss = linear_cross_entropy(x, weight, {}, random_targets(512, 1000));
  CHECK(allocator_stats(Device::kCpu).bytes_in_use - before < 1024);
  CHECK(loss.count.item() > 0);
}

TEST_CASE("linear_cross_entropy: all ignored or no rows at all: zero gradients everywhere") {
  for (const int64_t rows : {0, 3}) {
    const Tensor x = random({rows, 4}), weight = random({5, 4}, DType::f64, 4), bias = random({5});
    for (const Tensor& leaf : {x, weight, bias}) leaf.set_requires_grad();
    Tape tape;
    const TokenLoss loss = linear_cross_entropy(x, weight, bias, Tensor::full({rows}, -100, DType::i32));
    CHECK(loss.mean().item() == 0);
    tape.backward(loss.sum);
    CHECK(values_of(x.grad()) == Values(size_t(rows * 4), 0));
    CHECK(values_of(weight.grad()) == Values(20, 0));
    CHECK(values_of(bias.grad()) == Values(5, 0));
  }
}

TEST_CASE("linear_cross_entropy: shapes, dtypes, targets and options are checked") {
  const Tensor x = Tensor::zeros({2, 3}), weight = Tensor::zeros({4, 3}), targets = ids({0, 1});
  const auto call = [&](const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& targets) {
    return linear_cross_entropy(x, weight, bias, targets);
  };
  CHECK_THROWS_WITH(call(Tensor(), weight, {}, targets),
                    "[linear_cross_entropy] x must be [..., in], got undefined; reshape() it");
  CHECK_THROWS_WITH(call(x, Tensor::zeros({3, 4}), {}, targets),
                    Contains("[linear_cross_entropy] weight must be [out, 3]"));
  CHECK_THROWS_WITH(
      call(x, weight, Tensor::zeros({3}), targets),
      "[linear_cross_entropy] bias must be f32[4], got f32[3]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(call(x, weight, {}, ids({0})),
                    "[linear_cross_entropy] targets must be i32[2], got i32[1]; its sizes must agree with those of the "
                    "other arguments");
  CHECK_THROWS_WITH(call(x, weight, {}, ids({0, 4})),
                    Contains("target 4 at position 1 is outside the vocabulary of 4"));
  CHECK_THROWS_WITH(call(x, Tensor::zeros({0, 3}), {}, targets),
                    "[linear_cross_entropy] expected at least one class, got 0; the last dimension is the classes");
  CHECK_THROWS_WITH(linear_cross_entropy(x, weight, {}, targets, -100, -0.1),
                    Contains("label_smoothing must be in [0, 1)"));
  CHECK_THROWS_WITH(call(weight, weight, {}, ids({0, 1, 2, 3})), Contains("x and weight are one tensor, f32[4, 3]"));
  CHECK_THROWS_WITH(linear_cross_entropy(x, weight, {}, targets, -100, 0, 0),
                    "[linear_cross_entropy] chunk_elements must be > 0, got 0; leave it out for the default");
}

}  // namespace libtrain::testing
