/// Checks of MemoryProjections against cross_projection() of each layer, for tests on either device.
#pragma once
#include <cmath>
#include <random>

#include "catch.h"
#include "compare.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {

/// The layers of a check. A bias of keys and values begins behind `size` elements: at a multiple of 16 bytes or not.
struct ProjectedForm {
  int64_t size;  // of the model
  DType dtype;   // of tensors: f32 or bf16
  bool evenly;   // whether they lie equally far apart in the store
  bool with_biases;
};

/// Three layers of a decoder.
struct ProjectedLayers {
  static constexpr int64_t kLayers = 3, kRows = 5, kMemoryRows = 7, kInputs = 6;
  Parameters parameters;
  std::vector<Tensor> weights, biases, xs, of_queries, of_keys_values;
  Tensor memory;

  ProjectedLayers(Device device, const ProjectedForm& form)
      : parameters({.mixed_precision = form.dtype == DType::bf16, .device = device, .seed = 3}) {
    for (int64_t i = 0; i < kLayers; ++i) {
      const std::string layer = std::to_string(i);
      weights.push_back(parameters.add("weight" + layer, {3 * form.size, kInputs}, init::xavier_uniform()));
      if (form.with_biases) biases.push_back(parameters.add("bias" + layer, {3 * form.size}, init::normal(0, 1)));
      if (i == 0 && !form.evenly) parameters.add("gap", {100}, init::constant(0));
    }
    std::mt19937 random(7);
    const auto fresh = [&](const Shape& shape) {
      std::vector<float> values(size_t(shape.numel()));
      for (float& value : values) value = float(random() % 2001) / 1000 - 1;
      return Tensor::from(std::span<const float>(values), shape, device).cast(form.dtype);
    };
    memory = fresh({kMemoryRows, kInputs}).set_requires_grad();
    for (int64_t i = 0; i < kLayers; ++i) {
      xs.push_back(fresh({kRows, kInputs}).set_requires_grad());
      of_queries.push_back(fresh({kRows, form.size}));
      of_keys_values.push_back(fresh({kMemoryRows, 2 * form.size}));
    }
  }

  /// Queries, keys and values, and gradients of everything after a loss that weighs what is used of the layers, twice without clearing
  /// between.
  std::vector<Values> results(bool at_once, int64_t without_queries, int64_t without_keys_values) const {
    std::vector<Values> all;
    parameters.clear_gradients();
    // Not what an earlier call has left: who writes first defines every element.
    for (const auto& slot : parameters.slots()) parameters.slice(parameters.gradients(), slot).fill(NAN);
    for (const Tensor& x : xs) x.clear_grad();
    memory.clear_grad();
    for (int pass = 0; pass < 2; ++pass) {
      Tape tape;
      std::optional<MemoryProjections> together;
      if (at_once) together.emplace(memory, weights, biases);
      Tensor loss;
      const auto count = [&](const Tensor& y, const Tensor& weight) {
        const Tensor term = sum(mul(y, weight));
        loss = loss.defined() ? add(loss, term) : term;
      };
      for (size_t i = 0; i < size_t(kLayers); ++i) {
        const Tensor bias = biases.empty() ? Tensor() : biases[i];
        const CrossProjection y = at_once ? CrossProjection{together->queries(i, xs[i]), together->keys_values(i)}
                                          : cross_projection(xs[i], memory, weights[i], bias);
        if (i == 0) {  // queries of another input too
          const Tensor& x = xs[kLayers - 1];
          count(at_once ? together->queries(i, x) : cross_projection(x, memory, weights[i], bias).queries,
                of_queries[i]);
        }
        for (const Tensor& tensor : {y.queries, y.keys_values}) all.push_back(values_of(tensor));
        if (int64_t(i) != without_queries) count(y.queries, of_queries[i]);
        if (int64_t(i) != without_keys_values) count(y.keys_values, of_keys_values[i]);
      }
      tape.backward(loss);
    }
    parameters.zero_unwritten_gradients();
    all.push_back(values_of(memory.grad()));
    all.push_back(values_of(parameters.gradients()));
    for (const Tensor& x : xs)
      if (x.has_grad()) all.push_back(values_of(x.grad()));
    return all;
  }
};

/// One form, with and without gradients of some layers.
inline void check_memory_projections(Device device, const ProjectedForm& form) {
  const ProjectedLayers layers(device, form);
  const double tolerance = form.dtype == DType::bf16 ? 0.03 : 1e-5;  // a few roundings to bf16 of what is at most 4
  for (const auto& [queries, keys_values] : {std::pair<int64_t, int64_t>{-1, -1}, {1, -1}, {-1, 1}, {2, 2}, {0, 1}}) {
    CAPTURE(form.size, name(form.dtype), form.evenly, form.with_biases, queries, keys_values);
    const auto one_by_one = layers.results(false, queries, keys_values);
    const auto at_once = layers.results(true, queries, keys_values);
    REQUIRE(at_once.size() == one_by_one.size());
    for (size_t i = 0; i < at_once.size(); ++i)
      for (size_t k = 0; k < at_once[i].size(); ++k)
        REQUIRE(at_once[i][k] == Approx(one_by_one[i][k]).epsilon(tolerance).margin(tolerance));
  }
}

inline void check_memory_projections(Device device) {
  for (const int64_t size : {4, 6})
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const bool evenly : {true, false})
        for (const bool with_biases : {true, false})
          check_memory_projections(device, {size, dtype, evenly, with_biases});
}

/// One layer's projections, of all layers at once or not.
struct OneLayer {
  Tensor memory, weight, bias;
  std::optional<MemoryProjections> at_once;

  Tensor keys_values() const {
    return at_once ? at_once->keys_values(0) : cross_projection(memory, memory, weight, bias).keys_values;
  }
  Tensor queries(const Tensor& x) const {
    return at_once ? at_once->queries(0, x) : cross_projection(x, memory, weight, bias).queries;
  }
};

/// A weight that something else reads: an operation or, where `projected_too`, another MemoryProjections.
///   place  where that stands: before keys and values are made, behind that, between two queries, behind all
inline std::vector<double> gradients_of_shared_weight(Device device, bool at_once, bool projected_too, int place) {
  std::mt19937 random(11);
  const auto fresh = [&](const Shape& shape) {
    std::vector<float> values(size_t(shape.numel()));
    for (float& value : values) value = float(random() % 17) / 8 - 1;
    return Tensor::from(std::span<const float>(values), shape, device).set_requires_grad();
  };
  const Tensor x = fresh({5, 6}), memory = fresh({7, 6}), weight = fresh({12, 6}), bias = fresh({12});
  Tape tape;
  Tensor loss = Tensor::zeros({}, DType::f32, device);
  const auto count = [&](const Tensor& y) { loss = add(loss, sum(mul(y, y))); };
  const auto layer = [&](const Tensor& of) {
    OneLayer made{of, weight, bias, {}};
    if (at_once) made.at_once.emplace(of, std::vector{weight}, std::vector{bias});
    count(made.keys_values());
    return made;
  };
  std::optional<OneLayer> other;
  const auto read_here = [&](int here) {
    if (here != place) return;
    if (projected_too) other = layer(x);
    if (!projected_too) count(weight), count(bias);
  };
  read_here(0);
  const OneLayer ours = layer(memory);
  read_here(1);
  count(ours.queries(x));
  read_here(2);
  count(ours.queries(memory));
  read_here(3);
  if (other) count(other->queries(memory));
  tape.backward(loss);
  std::vector<double> found;
  for (const Tensor& tensor : {weight, bias, x, memory})
    for (const double value : values_of(tensor.grad())) found.push_back(value);
  return found;
}

inline void check_shared_memory_projections(Device device) {
  set_allocator_guards(true);  // fresh memory is NaN
  for (const bool projected_too : {false, true})
    for (int place = 0; place < 4; ++place) {
      CAPTURE(projected_too, place);
      const auto expected = gradients_of_shared_weight(device, false, projected_too, place),
                 found = gradients_of_shared_weight(device, true, projected_too, place);
      REQUIRE(found.size() == expected.size());
      for (size_t i = 0; i < found.size(); ++i) REQUIRE(found[i] == Approx(expected[i]).epsilon(1e-5).margin(1e-4));
    }
  set_allocator_guards(false);
}

/// Where another operation has opened the gradient of a layer's weight in bf16, what is written in f32 is added to it as a whole: also the rows
/// that queries leave to keys and values, or these to queries.
inline void check_converted_memory_projections(Device device) {
  constexpr int64_t kInputs = 6, kSize = 4;
  struct Case {
    bool open_weight, open_bias, queries, keys_values;
  };
  const auto gradients = [&](bool at_once, const Case& c) {
    std::mt19937 random(5);
    const auto fresh = [&](const Shape& shape) {
      std::vector<float> values(size_t(shape.numel()));
      for (float& value : values) value = float(random() % 17) / 8 - 1;
      return Tensor::from(std::span<const float>(values), shape, device).cast(DType::bf16).set_requires_grad();
    };
    const Tensor x = fresh({5, kInputs}), memory = fresh({7, kInputs}), weight = fresh({3 * kSize, kInputs}),
                 bias = fresh({3 * kSize});
    Tape tape;
    std::optional<MemoryProjections> all;
    if (at_once) all.emplace(memory, std::vector{weight}, std::vector{bias});
    const CrossProjection y =
        at_once ? CrossProjection{all->queries(0, x), all->keys_values(0)} : cross_projection(x, memory, weight, bias);
    Tensor loss = Tensor::zeros({}, DType::f32, device);
    if (c.queries) loss = add(loss, sum(y.queries));
    if (c.keys_values) loss = add(loss, sum(y.keys_values));
    // Recorded last, so that in backward they come first.
    if (c.open_weight) loss = add(loss, sum(scale(weight, 2)));
    if (c.open_bias) loss = add(loss, sum(scale(bias, 2)));
    tape.backward(loss);
    std::vector<double> found = weight.grad().cast(DType::f64).to_vector<double>();
    for (const double value : bias.grad().cast(DType::f64).to_vector<double>()) found.push_back(value);
    return found;
  };
  set_allocator_guards(true);  // fresh memory is NaN
  for (const auto& [open_weight, open_bias] : {std::pair{true, true}, {true, false}, {false, true}})
    for (const auto& [queries, keys_values] : {std::pair{true, true}, {true, false}, {false, true}}) {
      CAPTURE(open_weight, open_bias, queries, keys_values);
      const Case c{open_weight, open_bias, queries, keys_values};
      const auto expected = gradients(false, c), found = gradients(true, c);
      for (size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i);
        CHECK(found[i] == Approx(expected[i]).epsilon(1.0 / 64).margin(1.0 / 8));
      }
    }
  set_allocator_guards(false);
}

}  // namespace libtrain::testing
