#include "libtrain/nn/decoder_state.h"

#include <optional>

#include "catch.h"
#include "data/temporary_file.h"
#include "decode_checks.h"
#include "train/memory_faults.h"

namespace libtrain::testing {
using test::message_of;

namespace {

const std::vector<int64_t> kLengths{2, 1};

/// Two rows and two layers of size 4, at length 0.
DecoderState small_state() {
  return DecoderState({Tensor::zeros({3, 8}), Tensor::zeros({3, 8})}, make_packing(kLengths));
}

/// The message with which `call` is refused.
std::string refused(auto&& call) { return message_of<InvalidArgument>(call); }

}  // namespace

TEST_CASE("decoder_state: layers that are not alike are refused, and a packing that is not theirs", "[nn]") {
  const auto of_layers = [](const std::vector<Tensor>& layers) {
    return refused([&] { DecoderState(layers, make_packing(kLengths)); });
  };
  CHECK(of_layers({}) ==
        "[decoder_state] expected keys and values of at least one layer, got none; project the memory for each");
  const std::string shape = "[decoder_state] keys and values must be [memory rows, 2 size], got ";
  CHECK(of_layers({Tensor()}) == shape + "undefined; they stand side by side");
  CHECK(of_layers({Tensor::zeros({3})}) == shape + "f32[3]; they stand side by side");
  CHECK(of_layers({Tensor::zeros({3, 7})}) == shape + "f32[3, 7]; they stand side by side");
  CHECK(of_layers({Tensor::zeros({3, 0})}) == shape + "f32[3, 0]; they stand side by side");
  CHECK(of_layers({Tensor::zeros({3, 8}, DType::i32)}) ==
        "[decoder_state] expected a float dtype (f32, bf16, f64), got i32; cast() converts");
  const Tensor first = Tensor::zeros({3, 8});
  const std::string other = "[decoder_state] layer 1 must be f32[3, 8], got ";
  CHECK(of_layers({first, Tensor()}).find(other + "undefined") == 0);
  CHECK(of_layers({first, Tensor::zeros({3, 6})}).find(other + "f32[3, 6]") == 0);
  CHECK(of_layers({first, Tensor::zeros({4, 8})}).find(other + "f32[4, 8]") == 0);
  CHECK(of_layers({first, Tensor::zeros({3, 8}, DType::f64)}).find(other + "f64[3, 8]") == 0);
  CHECK(of_layers({Tensor::zeros({2, 8})}) ==
        "[decoder_state] memory describes 3 tokens, got f32[2, 8]; pass the packing that the rows were made with");
  CHECK(refused([&] { DecoderState({first}, Packing{}); }) ==
        "[decoder_state] memory is empty; make_packing() makes one from lengths");
}

TEST_CASE("decoder_state: attention of what does not fit is refused, and the position stays open", "[nn]") {
  DecoderState state = small_state();
  CHECK(state.layers() == 2);
  CHECK(state.size() == 4);
  CHECK(state.dtype() == DType::f32);
  CHECK(state.device() == Device::kCpu);
  const Tensor qkv = Tensor::zeros({2, 12}), q = Tensor::zeros({2, 4});
  const auto self = [&](size_t layer, const Tensor& x, int64_t heads = 2) {
    return refused([&] { state.self_attention(layer, x, heads); });
  };
  const auto memory = [&](size_t layer, const Tensor& x, int64_t heads = 2) {
    return refused([&] { state.memory_attention(layer, x, heads); });
  };
  const std::string closed = "[decoder_state] expected an open position, got none; call open_position() first";
  CHECK(self(0, qkv) == closed);
  CHECK(memory(0, q) == closed);
  CHECK(refused([&] { state.close_position(); }) == closed);
  state.open_position();
  CHECK(self(2, qkv) == "[decoder_state] layer 2 is outside [0, 2); they count from 0");
  CHECK(memory(2, q) == "[decoder_state] layer 2 is outside [0, 2); they count from 0");
  for (const Tensor& x : {Tensor(), Tensor::zeros({1, 12}), Tensor::zeros({3, 12}), Tensor::zeros({2, 8}),
                          Tensor::zeros({24}), Tensor::zeros({2, 12}, DType::f64)})
    CHECK(self(1, x).find("[decoder_state] qkv must be f32[2, 12], got " + x.spec()) == 0);
  for (const Tensor& x : {Tensor(), Tensor::zeros({1, 4}), Tensor::zeros({2, 12}), Tensor::zeros({2, 4}, DType::f64)})
    CHECK(memory(1, x).find("[decoder_state] q must be f32[2, 4], got " + x.spec()) == 0);
  CHECK(self(0, qkv, 3).find("[cross_attention] heads must be in") == 0);
  CHECK(state.self_attention(1, qkv, 2).shape() == Shape{2, 4});
  CHECK(state.memory_attention(1, q, 2).shape() == Shape{2, 4});
  state.close_position();
  CHECK(state.length() == 1);
  CHECK(self(0, qkv) == closed);
  state.open_position();
  CHECK(state.position().positions.to_vector<int32_t>() == Ids{1, 1});
  CHECK(state.position().cu_seqlens.to_vector<int32_t>() == Ids{0, 1, 2});
  CHECK(state.position().sequences.to_vector<int32_t>() == Ids{0, 1});
  CHECK(state.position().max_length == 1);
  state.select(Ids{0});
  CHECK(self(0, Tensor::zeros({1, 12})) == closed);
}

TEST_CASE("decoder_state: where open_position() runs out of memory, none is open", "[nn]") {
  DecoderState state = small_state();
  const auto open = [&] { state.open_position(); };
  const auto after = [&](int64_t) { CHECK_THROWS_AS(state.close_position(), InvalidArgument); };
  CHECK(for_every_allocation(fail_allocations, false, {open, after, open}) >= 9);
}

TEST_CASE("decoder_state: one that was moved from refuses all but a new value", "[nn]") {
  DecoderState state = small_state();
  state.open_position();
  DecoderState other = std::move(state);
  const std::string moved = "[decoder_state] expected a state, got one that was moved from; assign one to it";
  CHECK(state.layers() == 0);
  CHECK(refused([&] { state.size(); }) == moved);
  CHECK(refused([&] { state.select({}); }) == moved);
  CHECK(refused([&] { state.open_position(); }) == moved);
  CHECK(refused([&] { state.self_attention(0, Tensor::zeros({2, 12}), 2); }) == moved);
  CHECK(refused([&] { state.memory_attention(0, Tensor::zeros({2, 4}), 2); }) == moved);
  CHECK(refused([&] { state.close_position(); }) != "no exception");
  state = std::move(other);
  CHECK(state.self_attention(0, Tensor::zeros({2, 12}), 2).shape() == Shape{2, 4});
}

TEST_CASE("decode_next: the state of another model is refused, and is as before", "[nn]") {
  const RandomModel random;
  const Ids tokens{4, 5, 6, 7};
  const auto of = [&](const RandomModel& owner, auto change) {
    TransformerOptions options = random.model.options();
    change(options);
    Parameters parameters({.dtype = DType::f64});
    const Transformer other(parameters, options);
    DecoderState state = owner.begin();
    const std::string message = refused([&] { other.decode_next(Tensor::from(tokens, {4}), state); });
    CHECK(state.length() == 0);
    CHECK(difference(owner.next(tokens, state), 1, owner.last_hidden(1, {5})) < 1e-4);
    return message;
  };
  const std::string remedy = "; begin_decoding() of this model makes one";
  CHECK(of(random, [](auto& o) { o.decoder_layers = 3; }) ==
        "[transformer] expected a state of 3 layers, got 2" + remedy);
  CHECK(of(random, [](auto& o) { o.decoder_layers = 1; }) ==
        "[transformer] expected a state of 1 layers, got 2" + remedy);
  CHECK(of(random, [](auto& o) { o.layer.size = 8; }) ==
        "[transformer] expected a state of size 8 in f64 on cpu, got size 16 in f64 on cpu" + remedy);
  const RandomModel narrower({.dtype = DType::f32, .seed = 3});
  CHECK(of(narrower, [](auto&) {}) ==
        "[transformer] expected a state of size 16 in f64 on cpu, got size 16 in f32 on cpu" + remedy);
  DecoderState state = random.begin();
  const DecoderState other = std::move(state);
  CHECK(refused([&] { random.next({}, state); }) == "[transformer] expected a state of 2 layers, got 0" + remedy);
}

TEST_CASE("decoder_state: rows can be selected before the first position", "[nn]") {
  const RandomModel random;
  DecoderState state = random.begin();
  state.select(Ids{1, 3, 3});
  const Tensor hidden = random.next({4, 5, 6}, state);
  CHECK(difference(hidden, 0, random.last_hidden(1, {4})) < 1e-12);
  CHECK(difference(hidden, 1, random.last_hidden(3, {5})) < 1e-12);
  CHECK(difference(hidden, 2, random.last_hidden(3, {6})) < 1e-12);
}

TEST_CASE("decoder_state: select() records nothing while a tape is alive", "[nn]") {
  const Tensor keys_values = Tensor::zeros({3, 8}).set_requires_grad();
  const Tape tape;
  DecoderState state({keys_values}, make_packing(kLengths));
  state.select(Ids{1});
  CHECK(tape.size() == 0);
}

TEST_CASE("decoder_state: where select() runs out of memory, nothing has changed, and it can be called again", "[nn]") {
  const RandomModel random;
  const Ids rows{0, 0, 2, 3, 3};  // one source goes, so that memory moves too
  std::optional<DecoderState> state;
  std::vector<Ids> prefixes;
  const auto next = [&](int32_t token) {
    Ids tokens(prefixes.size(), token);
    tokens[0] = 9;
    for (size_t r = 0; r < tokens.size(); ++r) prefixes[r].push_back(tokens[r]);
    return random.next(tokens, *state);
  };
  const auto begin = [&] {
    state.emplace(random.begin());
    prefixes.assign(4, {});
    next(1), next(5);
  };
  const auto select = [&] { state->select(rows); };
  const auto check_next = [&](const Ids& sources) {
    REQUIRE(state->rows() == int64_t(sources.size()));
    const Tensor hidden = next(8);
    for (size_t r = 0; r < sources.size(); ++r)
      CHECK(difference(hidden, int64_t(r), random.last_hidden(size_t(sources[r]), prefixes[r])) < 1e-12);
  };
  for (const bool at_once : {false, true}) {
    const auto after = [&](int64_t k) {
      CAPTURE(k, at_once);
      if (!at_once) check_next({0, 1, 2, 3});
      select();
      prefixes = {prefixes[0], prefixes[0], prefixes[2], prefixes[3], prefixes[3]};
      check_next(rows);
    };
    CHECK(for_every_allocation(fail_allocations, false, {select, after, begin}) >= 9);
  }
}

}  // namespace libtrain::testing
