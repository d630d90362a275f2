/// Memory, streams and messages of a CUDA device.
#include <numeric>

#include "catch.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {
namespace {

using Catch::Matchers::Contains;

std::vector<float> rising(size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

Tensor on_device(const std::vector<float>& values) {
  return Tensor::from(std::span<const float>(values), {int64_t(values.size())}, Device::kCuda);
}

}  // namespace

TEST_CASE("device memory: values come back, copies stay on the device, filling works", "[device]") {
  const auto values = rising(1000);
  const Tensor there = on_device(values);
  CHECK(there.device() == Device::kCuda);
  CHECK(there.to_vector<float>() == values);
  CHECK(there.clone().to_vector<float>() == values);
  CHECK(there.rows(10, 13).to_vector<float>() == std::vector<float>{10, 11, 12});
  there.fill(0);
  CHECK(there.to_vector<float>() == std::vector<float>(1000, 0));
  there.fill(2.5);
  CHECK(there.to_vector<float>() == std::vector<float>(1000, 2.5f));
  CHECK(there.cast(DType::bf16).cast(DType::f32).to_vector<float>() == std::vector<float>(1000, 2.5f));
}

TEST_CASE("device memory: the source of an upload may change at once", "[device]") {
  std::vector<float> values = rising(500);
  const Tensor there = on_device(values);
  std::ranges::fill(values, -1.0f);
  CHECK(there.to_vector<float>() == rising(500));
}

TEST_CASE("device memory: a freed block is handed out again on its stream, and behind it on others", "[device]") {
  release_cached(Device::kCuda);
  const std::byte* first = on_device(rising(5000)).node_handle()->data;
  CHECK(on_device(rising(5000)).node_handle()->data == first);
  const int64_t asked = allocator_stats(Device::kCuda).system_allocations;
  for (int i = 0; i < 10; ++i) on_device(rising(5000));
  CHECK(allocator_stats(Device::kCuda).system_allocations == asked);

  // A block that is let go while another stream's work on it is under way waits for that work.
  const cuda::Stream other;
  const Tensor sum = Tensor::zeros({5000}, DType::f32, Device::kCuda);
  for (int round = 0; round < 4; ++round) {
    Tensor x = on_device(rising(5000));
    cuda::Event ready;
    ready.record();
    {
      const cuda::StreamScope scope(other);
      ready.wait();
      sum.copy_from(x);
      x = Tensor();  // goes back under `other`
    }
    const Tensor overwrites = on_device(std::vector<float>(5000, -1.0f));
    cuda::synchronize();  // as early as the device may get there
    const cuda::StreamScope scope(other);
    CHECK(sum.to_vector<float>() == rising(5000));
  }
}

TEST_CASE("device memory: more than there is, is refused with what is in use, and nothing is broken", "[device]") {
  const Tensor held = on_device(rising(1000));
  const auto ask = [] { Tensor({int64_t(1) << 46}, DType::f32, Device::kCuda); };
  CHECK_THROWS_AS(ask(), OutOfMemory);
  CHECK_THROWS_WITH(ask(), Contains("cuda memory: asked for 281474976710656 bytes") &&
                               Contains("none cached and in use ") && Contains(" of other tensors") &&
                               Contains("of the device's") && Contains("use smaller batches"));
  CHECK(held.to_vector<float>() == rising(1000));
}

TEST_CASE("device: arguments on different devices are refused by name", "[device]") {
  const Tensor here = Tensor::zeros({4, 4}), there = Tensor::zeros({4, 4}, DType::f32, Device::kCuda);
  CHECK_THROWS_WITH(add(there, here), "[add] b is on cpu, expected it on cuda; move it with .to()");
}

TEST_CASE("device: a token id outside its table is skipped, noted, and told once", "[device]") {
  cuda::take_bad_index();
  const Tensor table = Tensor::full({5, 8}, 1, DType::f32, Device::kCuda);
  const Tensor ids = Tensor::from<int32_t>({0, 4, 9, 1}, {4}, Device::kCuda);
  const auto rows = embedding(ids, table).to_vector<float>();
  CHECK(std::vector<float>(rows.begin() + 8, rows.begin() + 24) ==
        std::vector<float>{1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0});
  const BadIndex found = cuda::take_bad_index();
  CHECK(found.op == BadIndex::kEmbedding);
  CHECK(found.row == 2);
  CHECK(found.value == 9);
  CHECK(found.limit == 5);
  CHECK(cuda::take_bad_index().op == BadIndex::kNone);
}

TEST_CASE("device: its line for logs", "[device]") {
  CHECK_THAT(describe(Device::kCuda), Contains("cuda (") && Contains("sm_") && Contains("multiprocessors"));
}

}  // namespace libtrain::testing
