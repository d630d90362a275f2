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

TEST_CASE("device: a decoder's state, and what it is given, lie on one device", "[device]") {
  const std::vector<int64_t> lengths{2, 1};
  const Tensor there = Tensor::zeros({3, 8}, DType::f32, Device::kCuda), here = Tensor::zeros({3, 8});
  const Packing memory = make_packing(lengths, Device::kCuda);
  const std::string remedy = " is on cpu, expected it on cuda; move it with .to()";
  CHECK_THROWS_WITH(DecoderState({there, here}, memory), "[decoder_state] layer 1" + remedy);
  CHECK_THROWS_WITH(DecoderState({there}, make_packing(lengths)), "[decoder_state] memory.cu_seqlens" + remedy);
  DecoderState state({there}, memory);
  state.open_position();
  CHECK_THROWS_WITH(state.self_attention(0, Tensor::zeros({2, 12}), 2), "[decoder_state] qkv" + remedy);
  CHECK_THROWS_WITH(state.memory_attention(0, Tensor::zeros({2, 4}), 2), "[decoder_state] q" + remedy);
  const RandomModel on_cpu, on_device({.dtype = DType::f64, .device = Device::kCuda});
  DecoderState of_cpu = on_cpu.begin();
  CHECK_THROWS_WITH(on_device.next({4, 5, 6, 7}, of_cpu),
                    "[transformer] expected a state of size 16 in f64 on cuda, got size 16 in f64 on cpu; "
                    "begin_decoding() of this model makes one");
}

}  // namespace libtrain::testing
