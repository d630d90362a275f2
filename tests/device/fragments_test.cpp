/// Which register of which lane holds which element: ldmatrix and mma on random bits, as a table that a real device can write and that
/// the execution on the CPU is held to.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "catch.h"
#include "device/fragments.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {
namespace {

constexpr const char* kGolden = LIBTRAIN_SOURCE_DIR "/tests/device/fragments.txt";

/// A pair of small whole numbers in bf16, whose products and sums are exact in any order.
int32_t random_pair(uint64_t key, size_t i) {
  const auto w = philox<7>({uint32_t(i), 0, 0, 0}, uint32_t(key), uint32_t(key >> 32));
  const auto bits = [](uint32_t word) { return uint32_t(bf16(float(int(word % 17) - 8)).bits); };
  return int32_t(bits(w[0]) | bits(w[1]) << 16);
}

/// Registers of all lanes as hexadecimal words, a line for each register.
std::string dump() {
  std::vector<int32_t> pairs(kernels::kFragmentInput);
  for (size_t i = 0; i < pairs.size(); ++i) pairs[i] = random_pair(random_key({11, 5}), i);
  const Tensor input = Tensor::from(std::span<const int32_t>(pairs), {int64_t(pairs.size())}, Device::kCuda);
  const Tensor output = Tensor::zeros({kernels::kFragmentRegisters * 32}, DType::i32, Device::kCuda);
  kernels::dump_fragments(cuda::current_stream(), input.view<const int32_t>().data, output.view<int32_t>().data);
  std::string text;
  const auto words = output.to_vector<int32_t>();
  for (size_t i = 0; i < words.size(); ++i)
    text += format_message("{:08x}{}", uint32_t(words[i]), i % 32 == 31 ? "\n" : " ");
  return text;
}

}  // namespace

TEST_CASE("fragments: registers are those that a device has shown", "[fragments]") {
  const std::string now = dump();
  if (const char* path = std::getenv("LIBTRAIN_WRITE_FRAGMENTS")) {
    std::ofstream(path) << now;
    SUCCEED();
    return;
  }
  std::ifstream golden(kGolden);
  if (!golden) {
    WARN("no device has written tests/device/fragments.txt yet: nothing to compare with");
    return;
  }
  const std::string shown{std::istreambuf_iterator<char>(golden), {}};
  CHECK(now == shown);
}

}  // namespace libtrain::testing
