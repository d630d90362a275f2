#include <cmath>

#include "catch.h"
#include "libtrain/libtrain.h"
#include "libtrain/ops/memory_projections.h"

namespace libtrain::testing {
namespace {

Tensor values(const Shape& shape, DType dtype, int seed) {
  std::vector<double> numbers(size_t(shape.numel()));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = double((i * 7 + size_t(seed) * 13) % 19) / 8 - 1;
  const Tensor tensor = Tensor::from(std::span<const double>(numbers), shape).cast(dtype);
  tensor.set_requires_grad();
  return tensor;
}

/// Every gradient of a function of x, memory, weight and bias that is called twice on one tape, as numbers.
using Function = std::function<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&)>;
std::vector<std::vector<double>> gradients(DType dtype, const Function& function) {
  const std::vector<Tensor> in{values({5, 8}, dtype, 1), values({7, 8}, dtype, 2), values({12, 8}, dtype, 3),
                               values({12}, dtype, 4)};
  Tape tape;
  const Tensor y = add(function(in[0], in[1], in[2], in[3]), function(in[0], in[1], in[2], in[3]));
  tape.backward(y, values(y.shape(), dtype, 5));
  std::vector<std::vector<double>> found;
  for (const Tensor& input : in)
    found.push_back(input.has_grad() ? input.grad().cast(DType::f64).to_vector<double>() : std::vector<double>{});
  return found;
}

}  // namespace

TEST_CASE("cross_projection: a half that is not used gets zero in weight and bias, and its input no gradient",
          "[ops]") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const auto queries = gradients(dtype, [](const auto& x, const auto& memory, const auto& w, const auto& b) {
      return cross_projection(x, memory, w, b).queries;
    });
    CHECK(queries == gradients(dtype, [](const auto& x, const auto&, const auto& w, const auto& b) {
            return linear(x, slice(w, 0, 4), slice(b, 0, 4));
          }));
    const auto keys_values = gradients(dtype, [](const auto& x, const auto& memory, const auto& w, const auto& b) {
      return cross_projection(x, memory, w, b).keys_values;
    });
    CHECK(keys_values == gradients(dtype, [](const auto&, const auto& memory, const auto& w, const auto& b) {
            return linear(memory, slice(w, 4, 12), slice(b, 4, 12));
          }));
  }
}

TEST_CASE("cross_projection: where the weight is an input too, its gradients as both add up", "[ops]") {
  const Tensor other = values({12, 8}, DType::f64, 1), w = values({12, 8}, DType::f64, 2),
               b = values({12}, DType::f64, 3);
  using Project = std::function<CrossProjection(const Tensor&, const Tensor&, const Tensor&)>;
  const Project at_once = [&](const auto& x, const auto& memory, const auto& weight) {
    return cross_projection(x, memory, weight, b);
  };
  const Project layered = [&](const auto& x, const auto& memory, const auto& weight) {
    const MemoryProjections projections(memory, {weight}, {b});
    return CrossProjection{projections.queries(0, x), projections.keys_values(0)};
  };
  /// The gradients of `wanted`, added up, of queries, keys and values times what is drawn.
  const auto sum_of_gradients = [&](const Project& project, const Tensor& x, const Tensor& memory, const Tensor& weight,
                                    std::initializer_list<Tensor> wanted) {
    for (const Tensor* input : {&x, &memory, &weight, &b}) input->clear_grad();
    Tape tape;
    const auto [queries, keys_values] = project(x, memory, weight);
    const auto weighed = [](const Tensor& y, int seed) { return sum(mul(y, values(y.shape(), DType::f64, seed))); };
    tape.backward(add(weighed(queries, 4), weighed(keys_values, 5)));
    std::vector<double> total(size_t(weight.numel()));
    for (const Tensor& each : wanted)
      for (size_t i = 0; i < total.size(); ++i) total[i] += each.grad().to_vector<double>()[i];
    return total;
  };
  const auto check_same = [](const std::vector<double>& a, const std::vector<double>& expected) {
    for (size_t i = 0; i < a.size(); ++i) {
      INFO(i);
      CHECK(std::abs(a[i] - expected[i]) < 1e-12);
    }
  };
  const Tensor twin = values({12, 8}, DType::f64, 2), third = values({12, 8}, DType::f64, 2);
  for (const Project& project : {at_once, layered})
    check_same(sum_of_gradients(project, w, other, w, {w}), sum_of_gradients(project, twin, other, w, {twin, w}));
  check_same(sum_of_gradients(at_once, other, w, w, {w}), sum_of_gradients(at_once, other, twin, w, {twin, w}));
  check_same(sum_of_gradients(at_once, w, w, w, {w}), sum_of_gradients(at_once, twin, third, w, {twin, third, w}));
  CHECK_THROWS_WITH(
      layered(other, w, w),
      "[memory_projections] two of its arguments are one tensor, f64[12, 8]; use cross_projection() for each layer");
}

TEST_CASE("cross_projection: what does not fit is refused", "[ops]") {
  const Tensor x = values({5, 8}, DType::f32, 1), w = values({12, 8}, DType::f32, 2);
  CHECK_THROWS_WITH(
      cross_projection(x, x, values({13, 8}, DType::f32, 2)),
      "[cross_projection] weight must have rows for queries, keys and values, as many of each, got f32[13, 8]");
  CHECK_THROWS_WITH(cross_projection(x, values({5, 7}, DType::f32, 1), w),
                    "[cross_projection] memory must be [rows, 8] for weight f32[12, 8], got f32[5, 7]; its last size "
                    "is the second of weight");
  CHECK_THROWS_WITH(cross_projection(x, values({7, 8}, DType::f64, 1), w),
                    "[cross_projection] memory must have the dtype of weight, got f64[7, 8] and f32[12, 8]; cast() "
                    "converts");
  CHECK_THROWS_WITH(cross_projection(x, values({5, 2, 8}, DType::f32, 1), w),
                    "[cross_projection] memory must be [rows, in], got f32[5, 2, 8]; reshape() it");
  CHECK_THROWS_WITH(cross_projection(values({5, 2, 8}, DType::f32, 1), x, w),
                    "[cross_projection] x must be [rows, in], got f32[5, 2, 8]; reshape() it");
}

}  // namespace libtrain::testing
