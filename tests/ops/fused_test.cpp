/// rms_norm, bias_activation and add_dropout_layer_norm: what the table cannot say.
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "compare.h"
#include "normal_tensor.h"

namespace libtrain::testing {
namespace {

Tensor random(const Shape& shape, uint64_t seed) { return normal_tensor(shape, DType::f64, seed).set_requires_grad(); }

}  // namespace

TEST_CASE("rms_norm: known values, and arguments are checked") {
  const Tensor x = Tensor::from<double>({3, 4}, {1, 2}), weight = Tensor::from<double>({1, 10}, {2});
  const double rms = std::sqrt(12.5);
  CHECK(values_of(rms_norm(x, weight, 0)) == Values{3 * (1 / rms), 4 * (1 / rms) * 10});
  CHECK(values_of(rms_norm(Tensor::zeros({1, 2}), Tensor::full({2}, 1))) == Values{0, 0});
  CHECK_THROWS_WITH(rms_norm(Tensor::zeros({}), weight),
                    "[rms_norm] x must be [..., columns], got f32[]; reshape() it");
  CHECK_THROWS_WITH(rms_norm({}, weight), "[rms_norm] x must be [..., columns], got undefined; reshape() it");
  CHECK_THROWS_WITH(
      rms_norm(x, Tensor::full({3}, 1, DType::f64)),
      "[rms_norm] weight must be f64[2], got f64[3]; its sizes must agree with those of the other arguments");
}

TEST_CASE("bias_activation: dropped elements are 0 even where x is NaN, and arguments are checked") {
  const Tensor x = Tensor::full({1, 64}, NAN), bias = Tensor::zeros({64});
  const DropoutSpec spec{0.5f, 1, Tensor::from<int64_t>({1, 2}, {2})};
  const Tape tape;
  const Values y = values_of(bias_activation(x, bias, Activation::kGelu, {}, spec));
  for (const double value : y) CHECK((value == 0 || std::isnan(value)));
  CHECK(std::ranges::count(y, 0.0) > 16);
  CHECK_THROWS_WITH(bias_activation({}, bias, Activation::kRelu),
                    "[bias_activation] x must be [..., columns], got undefined; reshape() it");
  CHECK_THROWS_WITH(
      bias_activation(x, Tensor::zeros({3}), Activation::kRelu),
      "[bias_activation] bias must be f32[64], got f32[3]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(bias_activation(x, bias, Activation::kRelu, {}, {1.0f}),
                    "[bias_activation] p must be in [0, 1), got 1; 0 turns it off, 0.1 is usual");
}

TEST_CASE("linear_activation: ReLU keeps one matrix, and gives what the operations give that it stands for") {
  const Packing packing = make_packing(std::vector<int64_t>{2, 3}, Device::kCpu, 6);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const float p : {0.0f, 0.4f})
      for (const bool held : {false, true}) {
        INFO(name(dtype) << ", p " << p << (held ? ", y is held" : ""));
        const auto leaf = [&](const Shape& shape, uint64_t seed) {
          return normal_tensor(shape, dtype, seed).set_requires_grad();
        };
        const Tensor x = leaf({6, 5}, 1), weight = leaf({33, 5}, 2), bias = leaf({33}, 3), after = leaf({4, 33}, 4);
        const DropoutSpec spec{p, 2, Tensor::from<int64_t>({7, 8}, {2})};
        const auto run = [&](auto&& first_half) {
          const int64_t before = allocator_stats(Device::kCpu).bytes_in_use;
          Tape tape;
          Tensor y = first_half(), z = linear(y, after);
          const int64_t kept = allocator_stats(Device::kCpu).bytes_in_use - before;
          std::vector<Values> results{values_of(y), values_of(z)};
          if (!held) y = {};
          tape.backward(z, Tensor::full(z.shape(), 0.5, dtype));
          if (held) CHECK(values_of(y) == results[0]);
          for (const Tensor& input : {x, weight, bias, after}) {
            results.push_back(values_of(input.grad()));
            input.clear_grad();
          }
          return std::pair{results, kept};
        };
        run([&] {
          return linear_activation(x, weight, bias, Activation::kRelu, packing, spec);
        });  // makes room for gradients
        const auto [fused, fused_bytes] =
            run([&] { return linear_activation(x, weight, bias, Activation::kRelu, packing, spec); });
        const auto [apart, apart_bytes] =
            run([&] { return bias_activation(linear(x, weight), bias, Activation::kRelu, packing, spec); });
        CHECK(fused == apart);
        CHECK(apart_bytes - fused_bytes >= 6 * 33 * size_of(dtype));
      }
}

TEST_CASE("linear_activation: the gradient before ReLU is written over ReLU's output, unless somebody holds that") {
  const Tensor x = random({64, 3}, 1), weight = random({512, 3}, 2), bias = random({512}, 3),
               after = random({2, 512}, 4);
  const auto run = [&](bool held) {
    for (const Tensor& input : {x, weight, bias, after}) input.clear_grad();
    Tape tape;
    Tensor y = linear_activation(x, weight, bias, Activation::kRelu, {}, {});
    const Tensor z = linear(y, after);
    const Values before = values_of(y);
    if (!held) y = {};
    reset_peak(Device::kCpu);
    tape.backward(z, random({64, 2}, 5));
    if (held) CHECK(values_of(y) == before);
    return std::pair{values_of(weight.grad()), allocator_stats(Device::kCpu).peak_bytes_in_use};
  };
  run(true);  // makes room for gradients
  const auto [held_gradient, held_bytes] = run(true);
  const auto [over_gradient, over_bytes] = run(false);
  CHECK(over_gradient == held_gradient);
  CHECK(held_bytes - over_bytes >= 64 * 512 * size_of(x.dtype()));
}

TEST_CASE("linear_activation: what an observer holds is not overwritten") {
  struct Holder : TapeObserver {
    std::vector<Tensor> held;
    std::vector<Values> before;
    void forward(const Operation& operation) override {
      held.push_back(operation.outputs[0]);
      before.push_back(values_of(held.back()));
    }
    void backward(const Operation&) override {}
  };
  const Tensor x = random({4, 3}, 1), weight = random({8, 3}, 2), bias = random({8}, 3);
  const auto gradient = [&](bool observed) {
    weight.clear_grad();
    std::optional<Holder> holder;
    if (observed) holder.emplace();
    Tape tape;
    const Tensor y = linear_activation(x, weight, bias, Activation::kRelu, {}, {});
    tape.backward(y, random({4, 8}, 4));
    for (size_t i = 0; observed && i < holder->held.size(); ++i) CHECK(values_of(holder->held[i]) == holder->before[i]);
    if (observed) CHECK(holder->held.size() == 2);
    return values_of(weight.grad());
  };
  CHECK(gradient(true) == gradient(false));
}

TEST_CASE("linear_activation: what reads ReLU's output does not destroy what backward needs of it") {
  const Tensor x = random({4, 3}, 1), weight = random({8, 3}, 2), bias = random({8}, 3);
  const auto gradients = [&](auto&& first_half) {
    Tape tape;
    const Tensor y = scale(first_half(), 3);  // scale() overwrites its input with its gradient where it may
    tape.backward(y, random({4, 8}, 4));
    std::vector<Values> results;
    for (const Tensor& input : {x, weight, bias}) {
      results.push_back(values_of(input.grad()));
      input.clear_grad();
    }
    return results;
  };
  CHECK(gradients([&] { return linear_activation(x, weight, bias, Activation::kRelu, {}, {}); }) ==
        gradients([&] { return bias_activation(linear(x, weight), bias, Activation::kRelu); }));
}

TEST_CASE("add_dropout_layer_norm: gradients are those of the operations that it stands for") {
  const Tensor residual = random({5, 7}, 1), branch = random({5, 7}, 2), weight = random({7}, 3), bias = random({7}, 4);
  const Packing packing = make_packing(std::vector<int64_t>{2, 3});
  const DropoutSpec spec{0.4f, 2, Tensor::from<int64_t>({7, 8}, {2})};
  const auto gradients_of = [&](auto&& sum_and_norm) {
    Tape tape;
    const auto [x, y] = sum_and_norm();
    tape.backward(add(scale(y, 2), x), Tensor::full({5, 7}, 0.5, DType::f64));
    std::vector<Tensor> gradients;
    for (const Tensor& input : {residual, branch, weight, bias}) {
      gradients.push_back(input.grad().clone());
      input.clear_grad();
    }
    return gradients;
  };
  const auto fused =
      gradients_of([&] { return add_dropout_layer_norm(residual, branch, {}, weight, bias, packing, spec); });
  const auto apart = gradients_of([&] {
    const Tensor x = dropout_add(residual, branch, packing, spec);
    return NormalizedSum{x, layer_norm(x, weight, bias)};
  });
  for (size_t i = 0; i < fused.size(); ++i) CHECK(worst_difference(fused[i], apart[i]) <= 1e-14);
}

TEST_CASE("add_dropout_layer_norm: one tensor as two of its vectors gets both gradients") {
  const Tensor x = random({5, 7}, 1), branch = random({5, 7}, 2);
  const Tensor shared = random({7}, 3), first = random({7}, 3), second = random({7}, 3), third = random({7}, 4);
  // Gradients of three vectors, one behind the other.
  const auto gradients = [&](const Tensor& branch_bias, const Tensor& weight, const Tensor& bias) {
    for (const Tensor& input : {x, branch, shared, first, second, third}) input.clear_grad();
    Tape tape;
    tape.backward(add_dropout_layer_norm(x, branch, branch_bias, weight, bias, {}, {}).y, random({5, 7}, 5));
    return std::array{values_of(branch_bias.grad()), values_of(weight.grad()), values_of(bias.grad())};
  };
  const auto both = [&](const Values& a, const Values& b) {
    Values sum(a);
    for (size_t i = 0; i < a.size(); ++i) sum[i] += b[i];
    return sum;
  };
  auto apart = gradients(first, third, second);
  CHECK(worst_difference(gradients(shared, third, shared)[0], both(apart[0], apart[2])) <= 1e-14);
  apart = gradients(first, second, third);
  CHECK(worst_difference(gradients(shared, shared, third)[0], both(apart[0], apart[1])) <= 1e-14);
  apart = gradients(third, first, second);
  CHECK(worst_difference(gradients(third, shared, shared)[1], both(apart[1], apart[2])) <= 1e-14);
}

TEST_CASE("add_dropout_layer_norm: x is written over a branch that nobody else holds, their gradients over x's") {
  constexpr int64_t kRows = 64, kColumns = 96;
  const Tensor start = random({kRows, kColumns}, 1), inner = random({kRows, 8}, 2), weight = random({kColumns, 8}, 3);
  const Tensor norm_weight = random({kColumns}, 4), bias = random({kColumns}, 5);
  const DropoutSpec spec{0.4f, 2, Tensor::from<int64_t>({7, 8}, {2})};
  const int64_t matrix = kRows * kColumns * size_of(DType::f64);
  struct Run {
    std::vector<Values> results;
    int64_t kept, peak;  // bytes: after forward, and at most in backward beyond that
  };
  const auto run = [&](bool branch_is_held, bool x_is_held) {
    const std::vector<Tensor> leaves{start, inner, weight, norm_weight, bias};
    for (const Tensor& leaf : leaves) leaf.clear_grad();
    const int64_t before = allocator_stats(Device::kCpu).bytes_in_use;
    Tape tape;
    Tensor branch = linear(inner, weight);
    const Tensor held_branch = branch_is_held ? branch : Tensor();
    const Values branch_values = values_of(branch);
    auto [x, y] = add_dropout_layer_norm(scale(start, 2), std::move(branch), bias, norm_weight, bias, {}, spec);
    Run result{{values_of(x), values_of(y)}, 0, 0};
    if (branch_is_held) CHECK(values_of(held_branch) == branch_values);
    const Tensor total = add(x, y), held_x = x_is_held ? x : Tensor();
    x = y = {};
    result.kept = allocator_stats(Device::kCpu).bytes_in_use - before;
    reset_peak(Device::kCpu);
    tape.backward(total, random({kRows, kColumns}, 6));
    result.peak = allocator_stats(Device::kCpu).peak_bytes_in_use - before - result.kept;
    if (x_is_held) CHECK(values_of(held_x) == result.results[0]);
    for (const Tensor& leaf : leaves) result.results.push_back(values_of(leaf.grad()));
    return result;
  };
  run(false, false);  // makes room for gradients
  const Run over = run(false, false), beside = run(true, false), x_held = run(false, true);
  CHECK(over.results == beside.results);
  CHECK(over.results == x_held.results);
  CHECK(beside.kept - over.kept == matrix);
  CHECK(x_held.peak - over.peak >= 2 * matrix);  // the gradients of residual and branch
}

TEST_CASE("add_dropout_layer_norm: arguments are checked") {
  const Tensor x = Tensor::zeros({2, 3}), row = Tensor::zeros({3});
  const auto call = [&](const Tensor& residual, const Tensor& branch, const Tensor& branch_bias, const Tensor& weight) {
    return add_dropout_layer_norm(residual, branch, branch_bias, weight, row, {}, {});
  };
  CHECK_NOTHROW(call(x, x, row, row));
  CHECK_THROWS_WITH(call({}, x, {}, row),
                    "[add_dropout_layer_norm] residual must be [..., columns], got undefined; reshape() it");
  CHECK_THROWS_WITH(call(x, Tensor::zeros({3, 2}), {}, row),
                    "[add_dropout_layer_norm] branch must be f32[2, 3], got f32[3, 2]; reshape() it");
  CHECK_THROWS_WITH(call(x, x, Tensor::zeros({2}), row),
                    "[add_dropout_layer_norm] branch_bias must be f32[3], got f32[2]; its sizes must agree with those "
                    "of the other arguments");
  CHECK_THROWS_WITH(call(x, x, {}, Tensor::zeros({4})),
                    "[add_dropout_layer_norm] weight must be f32[3], got f32[4]; its sizes must agree with those of "
                    "the other arguments");
  CHECK_THROWS_WITH(add_dropout_layer_norm(x, x, {}, row, row, {}, {2.0f}),
                    "[add_dropout_layer_norm] p must be in [0, 1), got 2; 0 turns it off, 0.1 is usual");
}

}  // namespace libtrain::testing
