/// Recurrent cells and layers: gated recurrent units (Cho et al., EMNLP 2014) and long short-term memory (Hochreiter and Schmidhuber, 1997,
/// with the forget gate of Gers et al., 2000), in the form and with the parameter names that PyTorch has.
#pragma once
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "libtrain/ops.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// What a step of a recurrent network hands on.
struct LstmState {
  Tensor h, c;  // [batch, size] each: output and memory
};

namespace detail {
/// The two maps of a cell, from the input and from the state, each to `gates` times `size` columns. Named "weight_ih<suffix>" and so on; all
/// start uniform within ±size^-0.5.
class RecurrentMaps {
 public:
  RecurrentMaps(Parameters& parameters, const std::string& name, const std::string& suffix, int64_t gates,
                int64_t inputs, int64_t size);

  int64_t size() const { return weight_hh_.dim(1); }
  /// x [..., inputs] → [..., gates * size]
  Tensor of_input(const Tensor& x) const { return linear(x, weight_ih_, bias_ih_); }
  /// h [batch, size] → [batch, gates * size]
  Tensor of_state(const Tensor& h) const { return linear(h, weight_hh_, bias_hh_); }
  /// The batch of an input x [batch, inputs]. Throws unless it is a matrix.
  static int64_t checked_batch(const char* op, const Tensor& x) {
    LIBTRAIN_CHECK(x.defined() && x.rank() == 2,
                   "[{}] x must be [batch, inputs], got {}; reshape() it, a cell takes one step at a time", op,
                   x.spec());
    return x.dim(0);
  }
  /// Throws unless `state` is [batch, size], as the parameters are.
  void check_state(const char* op, const char* name, const Tensor& state, int64_t batch) const {
    check_like(op, name, state, weight_hh_, {batch, size()});
  }
  /// A state [batch, size] of zeros.
  Tensor zeros(int64_t batch) const { return Tensor::zeros({batch, size()}, weight_hh_.dtype(), weight_hh_.device()); }

 private:
  Tensor weight_ih_, weight_hh_, bias_ih_, bias_hh_;
};

/// The new state of a GRU, from what the maps say about input and old state.
Tensor gru_step(const Tensor& from_input, const Tensor& from_state, const Tensor& h);
LstmState lstm_step(const Tensor& from_input, const Tensor& from_state, const Tensor& c);
}  // namespace detail

/// One step of a gated recurrent unit. Parameters as in torch.nn.GRUCell: "weight_ih" [3 size, inputs], "weight_hh" [3 size, size], "bias_ih"
/// and "bias_hh" [3 size] (rows of the reset gate r, the update gate z and the new state n).
class GRUCell {
 public:
  /// All parameters start uniform within ±size^-0.5. Throws InvalidArgument unless inputs > 0 and size > 0.
  GRUCell(Parameters& parameters, const std::string& name, int64_t inputs, int64_t size)
      : maps_(parameters, name, "", 3, inputs, size) {}

  /// x [batch, inputs], h [batch, size] → the next h. Throws InvalidArgument when shapes, dtypes or devices differ from this.
  Tensor operator()(const Tensor& x, const Tensor& h) const {
    maps_.check_state("gru_cell", "h", h, maps_.checked_batch("gru_cell", x));
    return detail::gru_step(maps_.of_input(x), maps_.of_state(h), h);
  }
  /// Zeros [batch, size].
  Tensor initial_state(int64_t batch) const { return maps_.zeros(batch); }

 private:
  detail::RecurrentMaps maps_;
};

/// One step of a long short-term memory. Parameters as in torch.nn.LSTMCell: as those of GRUCell with 4 instead of 3 (rows of the input, forget,
/// cell and output gates i, f, g, o).
class LSTMCell {
 public:
  /// All parameters start uniform within ±size^-0.5. Throws InvalidArgument unless inputs > 0 and size > 0.
  LSTMCell(Parameters& parameters, const std::string& name, int64_t inputs, int64_t size)
      : maps_(parameters, name, "", 4, inputs, size) {}

  /// x [batch, inputs], h and c [batch, size] → the next state. Throws InvalidArgument likewise.
  LstmState operator()(const Tensor& x, const LstmState& state) const {
    const int64_t batch = maps_.checked_batch("lstm_cell", x);
    maps_.check_state("lstm_cell", "h", state.h, batch);
    maps_.check_state("lstm_cell", "c", state.c, batch);
    return detail::lstm_step(maps_.of_input(x), maps_.of_state(state.h), state.c);
  }
  /// Zeros [batch, size] for both.
  LstmState initial_state(int64_t batch) const { return {maps_.zeros(batch), maps_.zeros(batch)}; }

 private:
  detail::RecurrentMaps maps_;
};

/// Layers of gated recurrent units over time. Parameters as in torch.nn.GRU: those of a GRUCell with "_l0", "_l1"… behind their names.
class GRU {
 public:
  /// The first layer reads `inputs` columns, those above it the `size` of the layer below. Throws InvalidArgument unless all are > 0.
  GRU(Parameters& parameters, const std::string& name, int64_t inputs, int64_t size, int64_t layers = 1);

  /// x [steps, batch, inputs], at least one step → the last layer's outputs [steps, batch, size]. `states`: one h [batch, size] for each
  /// layer, zeros where it is empty; afterwards those of the last step, unless it throws: InvalidArgument for what differs from this.
  Tensor operator()(const Tensor& x, std::vector<Tensor>& states) const;
  /// From zeros.
  Tensor operator()(const Tensor& x) const {
    std::vector<Tensor> states;
    return (*this)(x, states);
  }

 private:
  std::vector<detail::RecurrentMaps> layers_;
};

/// Layers of long short-term memory over time. Parameters as in torch.nn.LSTM.
class LSTM {
 public:
  /// As GRU.
  LSTM(Parameters& parameters, const std::string& name, int64_t inputs, int64_t size, int64_t layers = 1);

  /// As GRU, with an LstmState for each layer.
  Tensor operator()(const Tensor& x, std::vector<LstmState>& states) const;
  /// From zeros.
  Tensor operator()(const Tensor& x) const {
    std::vector<LstmState> states;
    return (*this)(x, states);
  }

 private:
  std::vector<detail::RecurrentMaps> layers_;
};

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

inline RecurrentMaps::RecurrentMaps(Parameters& parameters, const std::string& name, const std::string& suffix,
                                    int64_t gates, int64_t inputs, int64_t size) {
  LIBTRAIN_CHECK(inputs > 0 && size > 0,
                 "[recurrent] expected inputs > 0 and size > 0, got {} and {}; both count features", inputs, size);
  const double bound = 1 / std::sqrt(double(size));
  const auto add = [&](const char* what, const Shape& shape) {
    return parameters.add(join_name(name, what + suffix), shape, init::uniform(-bound, bound));
  };
  weight_ih_ = add("weight_ih", {gates * size, inputs});
  weight_hh_ = add("weight_hh", {gates * size, size});
  bias_ih_ = add("bias_ih", {gates * size});
  bias_hh_ = add("bias_hh", {gates * size});
}

inline Tensor gru_step(const Tensor& from_input, const Tensor& from_state, const Tensor& h) {
  const int64_t size = h.dim(-1);
  const Tensor gates = sigmoid(add(narrow(from_input, -1, 0, 2 * size), narrow(from_state, -1, 0, 2 * size)));
  const Tensor r = narrow(gates, -1, 0, size), z = narrow(gates, -1, size, size);
  const Tensor n = tanh(add(narrow(from_input, -1, 2 * size, size), mul(r, narrow(from_state, -1, 2 * size, size))));
  return add(n, mul(z, sub(h, n)));  // (1 - z) n + z h
}

inline LstmState lstm_step(const Tensor& from_input, const Tensor& from_state, const Tensor& c) {
  const int64_t size = c.dim(-1);
  const Tensor all = add(from_input, from_state), first_two = sigmoid(narrow(all, -1, 0, 2 * size));
  const Tensor i = narrow(first_two, -1, 0, size), f = narrow(first_two, -1, size, size);
  const Tensor g = tanh(narrow(all, -1, 2 * size, size)), o = sigmoid(narrow(all, -1, 3 * size, size));
  const Tensor next = add(mul(f, c), mul(i, g));
  return {mul(o, tanh(next)), next};
}

inline std::vector<RecurrentMaps> recurrent_layers(Parameters& parameters, const std::string& name, int64_t gates,
                                                   int64_t inputs, int64_t size, int64_t layers) {
  LIBTRAIN_CHECK(layers >= 1, "[recurrent] expected at least one layer, got {}; 1 is the default", layers);
  std::vector<RecurrentMaps> maps;
  for (int64_t layer = 0; layer < layers; ++layer)
    maps.emplace_back(parameters, name, "_l" + std::to_string(layer), gates, layer == 0 ? inputs : size, size);
  return maps;
}

/// The outputs of one layer: step(what the map says about the input [batch, gates * size]) → h [batch, size], for one time after the other.
template <class Step> Tensor over_time(const RecurrentMaps& maps, const Tensor& x, const Step& step) {
  const int64_t steps = x.dim(0), batch = x.dim(1);
  const Tensor from_input = maps.of_input(x.reshape({steps * batch, x.dim(2)}));
  std::vector<Tensor> outputs;
  for (int64_t t = 0; t < steps; ++t) outputs.push_back(step(slice(from_input, t * batch, (t + 1) * batch)));
  return concat(outputs, 0).reshape({steps, batch, maps.size()});
}

/// The states that a call begins with: those given, or where there are none new ones. Throws unless x and the number of states fit.
template <class State, class Make> std::vector<State> first_states(const char* op, const Tensor& x,
                                                                   std::vector<State> states, size_t layers,
                                                                   const Make& make) {
  LIBTRAIN_CHECK(x.defined() && x.rank() == 3 && x.dim(0) >= 1,
                 "[{}] x must be [steps, batch, inputs], got {}; permute() brings time to the front", op, x.spec());
  if (states.empty())
    for (size_t i = 0; i < layers; ++i) states.push_back(make(i));
  LIBTRAIN_CHECK(states.size() == layers,
                 "[{}] expected {} states, one for each layer, got {}; pass none to begin with zeros", op, layers,
                 states.size());
  return states;
}

}  // namespace detail

inline GRU::GRU(Parameters& parameters, const std::string& name, int64_t inputs, int64_t size, int64_t layers)
    : layers_(detail::recurrent_layers(parameters, name, 3, inputs, size, layers)) {}

inline Tensor GRU::operator()(const Tensor& x, std::vector<Tensor>& states) const {
  auto now =
      detail::first_states("gru", x, states, layers_.size(), [&](size_t i) { return layers_[i].zeros(x.dim(1)); });
  for (size_t i = 0; i < layers_.size(); ++i) layers_[i].check_state("gru", "h", now[i], x.dim(1));
  Tensor y = x;
  for (size_t i = 0; i < layers_.size(); ++i)
    y = detail::over_time(layers_[i], y, [&](const Tensor& from_input) {
      return now[i] = detail::gru_step(from_input, layers_[i].of_state(now[i]), now[i]);
    });
  states = std::move(now);
  return y;
}

inline LSTM::LSTM(Parameters& parameters, const std::string& name, int64_t inputs, int64_t size, int64_t layers)
    : layers_(detail::recurrent_layers(parameters, name, 4, inputs, size, layers)) {}

inline Tensor LSTM::operator()(const Tensor& x, std::vector<LstmState>& states) const {
  auto now = detail::first_states("lstm", x, states, layers_.size(), [&](size_t i) {
    return LstmState{layers_[i].zeros(x.dim(1)), layers_[i].zeros(x.dim(1))};
  });
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].check_state("lstm", "h", now[i].h, x.dim(1));
    layers_[i].check_state("lstm", "c", now[i].c, x.dim(1));
  }
  Tensor y = x;
  for (size_t i = 0; i < layers_.size(); ++i)
    y = detail::over_time(layers_[i], y, [&](const Tensor& from_input) {
      now[i] = detail::lstm_step(from_input, layers_[i].of_state(now[i].h), now[i].c);
      return now[i].h;
    });
  states = std::move(now);
  return y;
}

}  // namespace libtrain
