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

}  // namespace libtrain::testing
