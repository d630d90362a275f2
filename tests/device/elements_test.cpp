#include "element_checks.h"

namespace libtrain::testing {

TEST_CASE("device: convert, every pair of float types, any alignment", "[device]") { check_convert(Device::kCuda); }
TEST_CASE("device: fill, every type, any alignment, and nothing beside", "[device]") { check_fill(Device::kCuda); }

}  // namespace libtrain::testing
