/// The kernels of the optimizers; as functions of a parameter store they stand in parameters_test.cpp and optim_test.cpp.
#include "optimizer_checks.h"

namespace libtrain::testing {

TEST_CASE("optimizer kernels: any size and alignment, weights rounded on demand", "[optim]") {
  check_updates(Device::kCpu);
}
TEST_CASE("optimizer kernels: values clipped and averaged, at any size and alignment", "[optim]") {
  check_pointwise(Device::kCpu);
}
TEST_CASE("optimizer kernels: more blocks than partial sums", "[optim]") { check_long_norm(Device::kCpu); }
TEST_CASE("optimizer kernels: skip changes nothing but the counts", "[optim]") { check_skip(Device::kCpu); }

}  // namespace libtrain::testing
