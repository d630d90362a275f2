#include "decode_checks.h"

namespace libtrain::testing {

TEST_CASE("device: positions decoded one by one are those decoded at once", "[device]") {
  check_positions({.device = Device::kCuda, .seed = 3}, true, 1e-4);
  check_positions({.mixed_precision = true, .device = Device::kCuda, .seed = 3}, true, 0.15);
  check_selections({.device = Device::kCuda, .seed = 3}, 1e-4);
}

TEST_CASE("device: decoding finds what it finds on the CPU", "[device]") {
  const RandomModel there({.device = Device::kCuda, .seed = 3}), here({.seed = 3});
  const auto greedy = greedy_decode(there.model, there.sources, 20, Device::kCuda);
  CHECK(greedy == greedy_decode(here.model, here.sources, 20));
  CHECK(greedy[0] != greedy[2]);
  const auto on_device = beam_decode(there.model, there.sources, 6, {.beams = 3}, Device::kCuda);
  const auto on_cpu = beam_decode(here.model, here.sources, 6, {.beams = 3});
  for (size_t s = 0; s < 4; ++s) {
    REQUIRE(on_device[s].size() == 3);
    for (size_t i = 0; i < 3; ++i) {
      CHECK(on_device[s][i].ids == on_cpu[s][i].ids);
      CHECK(std::abs(on_device[s][i].score - on_cpu[s][i].score) < 1e-4);
    }
  }
}

}  // namespace libtrain::testing
