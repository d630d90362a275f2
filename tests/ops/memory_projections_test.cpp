#include "memory_projections_checks.h"

namespace libtrain::testing {

using Catch::Matchers::Contains;

TEST_CASE("memory_projections: what cross_projection gives layer by layer, whatever is used of it", "[ops]") {
  check_memory_projections(Device::kCpu);
}

TEST_CASE("memory_projections: a gradient that is kept in bf16 gets what both sides add, and nothing else", "[ops]") {
  check_converted_memory_projections(Device::kCpu);
}

TEST_CASE("memory_projections: whole gradients, whatever else reads a weight", "[ops]") {
  check_shared_memory_projections(Device::kCpu);
}

TEST_CASE("memory_projections: what does not fit is refused", "[ops]") {
  const Tensor memory = Tensor::zeros({2, 4}), weight = Tensor::zeros({6, 4});
  CHECK_THROWS_WITH(MemoryProjections(memory, {}), Contains("expected a weight for each layer"));
  CHECK_THROWS_WITH(MemoryProjections(memory, {weight, weight}, {Tensor::zeros({6})}), Contains("got 2 and 1"));
  CHECK_THROWS_WITH(MemoryProjections(memory, {weight, Tensor::zeros({9, 4})}), Contains("weight"));
  CHECK_THROWS_WITH(MemoryProjections(memory, {Tensor::zeros({5, 4})}), Contains("as many of each"));
  CHECK_THROWS_WITH(MemoryProjections(Tensor::zeros({2, 5}), {weight}),
                    "[memory_projections] memory must be [rows, 4] for weight f32[6, 4], got f32[2, 5]; its last size "
                    "is the second of weight");
  CHECK_THROWS_WITH(MemoryProjections(Tensor::zeros({4}), {weight}),
                    "[memory_projections] memory must be [rows, in], got f32[4]; reshape() it");
  CHECK_THROWS_WITH(MemoryProjections(memory, {weight}).queries(0, Tensor::zeros({2, 5})),
                    "[query_projection] x must be [rows, 4] for weight f32[6, 4], got f32[2, 5]; its last size is the "
                    "second of weight");
  const Tensor other = Tensor::zeros({6, 4}), bias = Tensor::zeros({6});
  CHECK_THROWS_WITH(
      MemoryProjections(memory, {weight, other, weight}),
      "[memory_projections] two of its arguments are one tensor, f32[6, 4]; use cross_projection() for each layer");
  CHECK_THROWS_WITH(
      MemoryProjections(memory, {weight, other}, {bias, bias}),
      "[memory_projections] two of its arguments are one tensor, f32[6]; use cross_projection() for each layer");
  const Tensor column = Tensor::zeros({6, 1});
  CHECK_THROWS_WITH(MemoryProjections(Tensor::zeros({2, 1}), {column}, {column.reshape({6})}),
                    Contains("two of its arguments are one tensor"));
  CHECK_THROWS_WITH(MemoryProjections(column.reshape({6, 1}), {Tensor::zeros({6, 1})}, {column.reshape({6})}),
                    Contains("two of its arguments are one tensor"));
  CHECK_NOTHROW(MemoryProjections(memory, {weight, other}, {bias, Tensor::zeros({6})}));
}

}  // namespace libtrain::testing
