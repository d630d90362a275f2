#include "optimizer_checks.h"

namespace libtrain::testing {

TEST_CASE("device: clip_by_norm and the optimizers follow the CPU, at any size and alignment", "[device]") {
  check_updates(Device::kCuda);
}
TEST_CASE("device: clip_by_value and moving_average follow the CPU, at any size and alignment", "[device]") {
  check_pointwise(Device::kCuda);
}
TEST_CASE("device: clip_by_norm over more blocks than partial sums", "[device]") { check_long_norm(Device::kCuda); }
TEST_CASE("device: a skipped update changes nothing but the counts", "[device]") { check_skip(Device::kCuda); }

TEST_CASE("device: an index that a kernel could not use stops the update, noted before clip_by_norm or after",
          "[device]") {
  for (const bool before : {true, false}) {
    const FlatBuffers<float> flat(100, 0, Device::kCuda);
    const Tensor weights = flat.weights.clone(), table = Tensor::zeros({3, 4}, DType::f32, Device::kCuda);
    const auto look_up = [&] { embedding(Tensor::from<int32_t>({0, 3}, {2}, Device::kCuda), table); };
    if (before) look_up();
    flat.clip(1);
    CHECK(flat.step().skip == before);
    if (!before) look_up();
    flat.update(false);
    CHECK(worst_difference(flat.weights, weights) == 0);
    CHECK(std::tuple(flat.step().updates, flat.step().skipped_updates, flat.step().skip) == std::tuple(3, 1, 1));
    const Tensor m = flat.m.clone();
    flat.average(0.5);
    CHECK(worst_difference(flat.m, m) == 0);
    CHECK(cuda::take_bad_index().op == BadIndex::kEmbedding);
    flat.update(false);
    CHECK(flat.step().updates == 3);  // skip stands until the next clip_by_norm
  }
}

}  // namespace libtrain::testing
