#include "memory_projections_checks.h"

namespace libtrain::testing {

using Catch::Matchers::Contains;

TEST_CASE("memory_projections: what cross_projection gives layer by layer, whatever is used of it", "[ops]") {
  check_memory_projections(Device::kCpu);
}

TEST_CASE("memory_projections: what does not fit is refused", "[ops]") {
  const Tensor memory = Tensor::zeros({2, 4}), weight = Tensor::zeros({6, 4});
  CHECK_THROWS_WITH(MemoryProjections(memory, {}), Contains("expected a weight for each layer"));
  CHECK_THROWS_WITH(MemoryProjections(memory, {weight, weight}, {Tensor::zeros({6})}), Contains("got 2 and 1"));
  CHECK_THROWS_WITH(MemoryProjections(memory, {weight, Tensor::zeros({9, 4})}), Contains("weight"));
  CHECK_THROWS_WITH(MemoryProjections(memory, {Tensor::zeros({5, 4})}), Contains("as many of each"));
}

}  // namespace libtrain::testing
