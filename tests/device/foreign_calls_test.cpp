/// A program that calls CUDA's runtime itself, beside libtrain. On a real device alone.
#include <cuda_runtime.h>

#include "catch.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {

TEST_CASE("device: a launch is not blamed for what the program's own calls have left", "[device]") {
  const Tensor x = Tensor::full({4}, 1, DType::f32, Device::kCuda);
  CHECK(cudaSetDevice(-1) == cudaErrorInvalidDevice);  // and cudaGetLastError() has not been asked
  CHECK(add(x, x).to_vector<float>() == std::vector<float>(4, 2));
  cudaGetLastError();
}

TEST_CASE("device: a thread for which the program has chosen another GPU is told so", "[device]") {
  int count = 0;
  REQUIRE(cudaGetDeviceCount(&count) == cudaSuccess);
  if (count < 2) return;  // there is no other
  const Tensor x = Tensor::full({4}, 1, DType::f32, Device::kCuda);
  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  CHECK_THROWS_WITH(cuda::Stream(), Catch::Matchers::Contains("got GPU 1; call cudaSetDevice(0) before"));
  CHECK_THROWS_AS(add(x, x), DeviceError);
  REQUIRE(cudaSetDevice(0) == cudaSuccess);
  CHECK(add(x, x).to_vector<float>() == std::vector<float>(4, 2));
}

}  // namespace libtrain::testing
