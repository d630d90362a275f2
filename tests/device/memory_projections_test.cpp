#include "memory_projections_checks.h"

namespace libtrain::testing {

TEST_CASE("device: memory_projections gives what cross_projection gives layer by layer", "[device]") {
  check_memory_projections(Device::kCuda);
}

TEST_CASE("device: memory_projections adds what both sides make to a gradient that is kept in bf16", "[device]") {
  check_converted_memory_projections(Device::kCuda);
}

TEST_CASE("device: memory_projections gives whole gradients, whatever else reads a weight", "[device]") {
  check_shared_memory_projections(Device::kCuda);
}

}  // namespace libtrain::testing
