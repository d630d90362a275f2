#include "embedding_checks.h"

namespace libtrain::testing {

TEST_CASE("device: embedding with dropout gives the bits of the two one after the other", "[device]") {
  check_dropped_embedding(Device::kCuda);
}

}  // namespace libtrain::testing
