#include "epilogue_checks.h"

namespace libtrain::testing {

TEST_CASE("device: bias and activation in the product give what a kernel of their own gives", "[device]") {
  check_activation_in_product(Device::kCuda);
  check_activations_of_batch(Device::kCuda);
}

}  // namespace libtrain::testing
