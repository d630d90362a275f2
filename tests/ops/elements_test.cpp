#include "element_checks.h"

namespace libtrain::testing {

TEST_CASE("convert: every pair of float types, any alignment, rounded to nearest even") { check_convert(Device::kCpu); }
TEST_CASE("fill: every type, any alignment, and nothing beside") { check_fill(Device::kCpu); }

}  // namespace libtrain::testing
