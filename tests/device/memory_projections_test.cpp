#include "memory_projections_checks.h"

namespace libtrain::testing {

TEST_CASE("device: memory_projections gives what cross_projection gives layer by layer", "[device]") {
  check_memory_projections(Device::kCuda);
}

}  // namespace libtrain::testing
