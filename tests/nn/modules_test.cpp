/// Modules beside the transformer; that they compute what PyTorch's compute stands in tests/oracle/modules_test.cpp.
#include <cmath>

#include "catch.h"
#include "compare.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"
#include "normal_tensor.h"

namespace {

/// As in a program, where <cmath>'s functions of numbers have some of the names too.
libtrain::Sequential functions_by_name(libtrain::Parameters& parameters) {
  using namespace libtrain;
  Sequential net(parameters, "net");
  net.add(gelu).add(tanh).add(exp).add(softmax).add(log_softmax).add([](const Tensor& x) { return scale(x, 2); });
  return net;
}

}  // namespace

namespace libtrain::testing {
using test::message_of;
namespace {

Tensor drawn(const Shape& shape, uint64_t seed) { return normal_tensor(shape, DType::f64, seed); }

std::vector<std::string> names_of(const Parameters& parameters) {
  std::vector<std::string> names;
  for (const auto& slot : parameters.slots()) names.push_back(slot.name);
  return names;
}

}  // namespace

TEST_CASE("rms_norm module: the op with a weight of its own", "[nn]") {
  Parameters parameters({.dtype = DType::f64});
  const RMSNorm norm(parameters, "norm", 6, 1e-3);
  const Tensor x = drawn({4, 6}, 1);
  parameters.get("norm.weight").copy_from(drawn({6}, 2));
  CHECK(values_of(norm(x)) == values_of(rms_norm(x, parameters.get("norm.weight"), 1e-3)));
}

TEST_CASE("dropout module: acts while a tape lives and training is on, each place with bits of its own", "[nn]") {
  Parameters parameters({.dtype = DType::f64});
  Dropout first(parameters, 0.5f);
  const Dropout second(parameters, 0.5f);
  const Tensor x = Tensor::full({8, 40}, 1, DType::f64);
  CHECK(values_of(first(x)) == values_of(x));
  const Tape tape;
  const Values dropped = values_of(first(x));
  const auto zeros = std::ranges::count(dropped, 0.0);
  CHECK((zeros > 100 && zeros < 220));
  CHECK(dropped == values_of(first(x)));
  CHECK(dropped != values_of(second(x)));
  const int64_t lengths[] = {5, 3};
  CHECK(dropped != values_of(first(x, make_packing(lengths))));  // positions count from 0 in each sequence
  first.train(false);
  CHECK(values_of(first(x)) == values_of(x));
  CHECK(message_of<InvalidArgument>([&] { Dropout(parameters, 1); }) ==
        "[dropout] p must be in [0, 1), got 1; 0 turns it off, 0.1 is usual");
}

TEST_CASE("sequential: modules are named by their place, run in order, and follow train()", "[nn]") {
  Parameters parameters({.dtype = DType::f64});
  Sequential net(parameters, "net");
  net.add<Linear>(5, 7).add(relu).add<Dropout>(0.5f).add<Linear>(7, 3, false);
  CHECK(names_of(parameters) == std::vector<std::string>{"net.0.weight", "net.0.bias", "net.3.weight"});
  CHECK(net.size() == 4);
  const Tensor x = drawn({4, 5}, 1);
  const auto& p = parameters;
  const Tensor expected =
      linear(relu(linear(x, p.get("net.0.weight"), p.get("net.0.bias"))), p.get("net.3.weight"), {});
  CHECK(worst_difference(net(x), expected) == 0);
  const Tape tape;
  CHECK(worst_difference(net(x), expected) > 0);
  net.train(false);
  CHECK(worst_difference(net(x), expected) == 0);
  Sequential outer(parameters, "outer");
  outer.add(net).add<Linear>(3, 2);  // shares the modules of `net`
  CHECK(outer(x).shape() == Shape{4, 2});
  CHECK(values_of(Sequential(parameters, "empty")(x)) == values_of(x));
}

TEST_CASE("sequential: functions go in by their names, also those that numbers or options have overloads of", "[nn]") {
  Parameters parameters;
  const Tensor x = drawn({4, 5}, 1);
  CHECK(values_of(functions_by_name(parameters)(x)) ==
        values_of(scale(log_softmax(softmax(exp(tanh(gelu(x, GeluForm::kErf))), -1), -1), 2)));
}

TEST_CASE("modules: a share to drop below 0 or from 1 on is refused before anything is registered", "[nn]") {
  Parameters parameters;
  const auto refused = [&](const std::function<void(float)>& make) {
    for (const float p : {1.f, -0.5f, NAN})
      CHECK(message_of<InvalidArgument>([&] { make(p); }).find(format_message(" must be in [0, 1), got {}; ", p)) !=
            std::string::npos);
    const std::string message = message_of<InvalidArgument>([&] { make(1.5f); });
    CHECK(names_of(parameters).empty());
    return message;
  };
  CHECK(refused([&](float p) { Dropout(parameters, p); }) ==
        "[dropout] p must be in [0, 1), got 1.5; 0 turns it off, 0.1 is usual");
  CHECK(refused([&](float p) { FeedForward(parameters, "f", 4, 8, Activation::kRelu, p); }) ==
        "[feed_forward] dropout must be in [0, 1), got 1.5; 0 turns it off, 0.1 is usual");
  CHECK(refused([&](float p) { MultiHeadAttention(parameters, "a", 4, 2, p); }) ==
        "[attention] dropout must be in [0, 1), got 1.5; 0 turns it off, 0.1 is usual");
  const auto options = [](float p) { return TransformerLayerOptions{.size = 4, .heads = 2, .dropout = p}; };
  CHECK(refused([&](float p) { Residual(parameters, "r", options(p)); }) ==
        "[residual] dropout must be in [0, 1), got 1.5; 0 turns it off, 0.1 is usual");
  refused([&](float p) { EncoderLayer(parameters, "e", options(p)); });
  refused([&](float p) { DecoderLayer(parameters, "d", options(p)); });
  CHECK(refused([&](float p) {
          Transformer(parameters, {.source_vocab = 9, .target_vocab = 9, .layer = options(p)});
        }) == "[transformer] dropout must be in [0, 1), got 1.5; 0 turns it off, 0.1 is usual");
}

TEST_CASE("modules: parameters are named below the module's name, or without one by their own names alone", "[nn]") {
  Parameters parameters;
  const FeedForward feed_forward(parameters, "part", 4, 8, Activation::kRelu, 0);
  CHECK(names_of(parameters) == std::vector<std::string>{"part.linear1.weight", "part.linear1.bias",
                                                         "part.linear2.weight", "part.linear2.bias"});
  const TransformerLayerOptions options{.size = 4, .heads = 2};
  for (const std::string name : {"encoder", ""}) {
    Parameters store;
    const EncoderLayer encoder(store, name, options);
    for (const char* own : {"self_attn.in_proj_weight", "linear2.bias", "norm1.weight", "norm2.bias"})
      CHECK(store.contains(join_name(name, own)));
    const DecoderLayer decoder(store, join_name(name, "decoder"), options);
    for (const char* own : {"multihead_attn.out_proj.bias", "linear1.weight", "norm2.weight", "norm3.weight"})
      CHECK(store.contains(join_name(name, "decoder.") + own));
  }
  Parameters nameless;
  const DecoderLayer decoder(nameless, "", options);
  for (const std::string& name : names_of(nameless)) CHECK(name[0] != '.');
}

TEST_CASE("modules: a layer of a pre-norm encoder adds attention and feed-forward part, each of a norm, to its input",
          "[nn]") {
  Parameters parameters({.dtype = DType::f64}), parts({.dtype = DType::f64});
  const EncoderLayer layer(parameters, "layer", {.size = 4, .heads = 2, .feed_forward_size = 8});
  const MultiHeadAttention attention(parts, "layer.self_attn", 4, 2, 0);
  const FeedForward feed_forward(parts, "layer", 4, 8, Activation::kRelu, 0);
  const LayerNorm first(parts, "layer.norm1", 4), second(parts, "layer.norm2", 4);
  uint64_t seed = 2;
  for (const auto& slot : parameters.slots()) slot.value.copy_from(drawn(slot.value.shape(), seed++));
  parts.copy_values(parameters);
  const Tensor x = drawn({5, 4}, 1);
  const Packing packing = make_packing(std::vector<int64_t>{2, 3});
  const Tensor attended = add(x, attention.self(first(x), packing, false));
  const Tensor expected = add(attended, feed_forward(second(attended), packing));
  CHECK(worst_difference(layer(x, packing).value(packing), expected) < 1e-14);
  CHECK(worst_difference(layer(x, packing).normalized(first, packing).y, first(expected)) < 1e-14);
}

TEST_CASE("recurrent layers: cells over time, whose states go on where the last call ended", "[nn]") {
  Parameters parameters({.dtype = DType::f64});
  const GRU gru(parameters, "gru", 3, 4, 2);
  const LSTM lstm(parameters, "lstm", 3, 4, 2);
  CHECK(names_of(parameters).front() == "gru.weight_ih_l0");
  CHECK(names_of(parameters).back() == "lstm.bias_hh_l1");
  const Tensor x = drawn({5, 2, 3}, 1);
  std::vector<Tensor> states;
  std::vector<LstmState> memories;
  const Tensor outputs = concat({gru(x.rows(0, 2), states), gru(x.rows(2, 5), states)}, 0),
               lstm_outputs = concat({lstm(x.rows(0, 2), memories), lstm(x.rows(2, 5), memories)}, 0);
  CHECK(outputs.shape() == Shape{5, 2, 4});
  CHECK(worst_difference(outputs, gru(x)) < 1e-15);
  CHECK(worst_difference(lstm_outputs, lstm(x)) < 1e-15);
  CHECK(worst_difference(states[1], outputs.rows(4, 5)) == 0);
  CHECK(worst_difference(memories[1].h, lstm_outputs.rows(4, 5)) == 0);

  Parameters single({.dtype = DType::f64});
  const GRUCell cell(single, "", 3, 4);
  single.copy_values(parameters, [](const std::string& name) { return "gru." + name + "_l0"; });
  Tensor h = cell.initial_state(2);
  for (int64_t t = 0; t < 5; ++t) h = cell(x.rows(t, t + 1).reshape({2, 3}), h);
  CHECK(worst_difference(h, states[0]) < 1e-15);

  CHECK(message_of<InvalidArgument>([&] {
          gru(x.reshape({10, 3}));
        }) == "[gru] x must be [steps, batch, inputs], got f64[10, 3]; permute() brings time to the front");
  states.pop_back();
  CHECK(message_of<InvalidArgument>([&] { gru(x, states); }) ==
        "[gru] expected 2 states, one for each layer, got 1; pass none to begin with zeros");
  CHECK_THROWS_AS(GRU(parameters, "none", 3, 4, 0), InvalidArgument);
  CHECK_THROWS_AS(LSTMCell(parameters, "none", 0, 4), InvalidArgument);
}

TEST_CASE("recurrent layers: a call that throws leaves the states as they were", "[nn]") {
  Parameters parameters;
  const GRU gru(parameters, "gru", 3, 4, 2);
  const LSTM lstm(parameters, "lstm", 3, 4, 2);
  const auto refuse_all = [&](std::vector<Tensor>& states, std::vector<LstmState>& memories) {
    for (const Tensor& x : {Tensor::zeros({5, 2, 7}), Tensor::zeros({5, 2, 3}, DType::f64), Tensor::zeros({2, 3})}) {
      CHECK_THROWS_AS(gru(x, states), InvalidArgument);
      CHECK_THROWS_AS(lstm(x, memories), InvalidArgument);
    }
  };
  std::vector<Tensor> states;
  std::vector<LstmState> memories;
  refuse_all(states, memories);
  CHECK(states.empty());
  CHECK(memories.empty());
  gru(Tensor::full({1, 2, 3}, 1), states);
  lstm(Tensor::full({1, 2, 3}, 1), memories);
  const auto h = states[1].to_vector<float>(), c = memories[0].c.to_vector<float>();
  refuse_all(states, memories);
  CHECK(states[1].to_vector<float>() == h);
  CHECK(memories[0].c.to_vector<float>() == c);
}

TEST_CASE("recurrent cells: an input that is no [batch, inputs] is refused before anything broadcasts", "[nn]") {
  Parameters parameters;
  const GRUCell gru(parameters, "gru", 3, 4);
  const LSTMCell lstm(parameters, "lstm", 3, 4);
  const Tensor h = Tensor::zeros({5, 4});
  const auto refusal = [&](const char* op, const char* got) {
    return format_message("[{}] x must be [batch, inputs], got {}; reshape() it, a cell takes one step at a time", op,
                          got);
  };
  for (const Tensor& x : {Tensor(), Tensor::zeros({3}), Tensor::zeros({5, 1, 3})}) {
    const std::string got = x.spec();
    CHECK(message_of<InvalidArgument>([&] { gru(x, h); }) == refusal("gru_cell", got.c_str()));
    CHECK(message_of<InvalidArgument>([&] { lstm(x, {h, h}); }) == refusal("lstm_cell", got.c_str()));
  }
}

TEST_CASE("recurrent layers: gradients reach the first step, and end where a state was detached", "[nn]") {
  Parameters parameters({.dtype = DType::f64});
  const GRU gru(parameters, "gru", 3, 4);
  for (const bool cut : {false, true}) {
    const Tensor x = drawn({4, 2, 3}, 1);
    x.set_requires_grad();
    Tape tape;
    std::vector<Tensor> states;
    gru(slice(x, 0, 2), states);
    if (cut) states[0] = states[0].detach();
    tape.backward(sum(gru(slice(x, 2, 4), states)));
    const Values dx = values_of(x.grad());
    const double first = std::abs(dx[0]) + std::abs(dx[1]) + std::abs(dx[2]);
    CHECK((first == 0) == cut);
  }
}

}  // namespace libtrain::testing
