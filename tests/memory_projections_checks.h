/// Checks of MemoryProjections against cross_projection() of each layer, for tests on either device.
#pragma once
#include <cmath>
#include <random>

#include "catch.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {

/// Three layers of a decoder, in a store where they lie equally far apart or not.
struct ProjectedLayers {
  static constexpr int64_t kLayers = 3, kRows = 5, kMemoryRows = 7, kInputs = 6, kSize = 4;
  Parameters parameters;
  std::vector<Tensor> weights, biases, xs, of_queries, of_keys_values;
  Tensor memory;

  ProjectedLayers(Device device, bool evenly, bool with_biases) : parameters({.device = device, .seed = 3}) {
    for (int64_t i = 0; i < kLayers; ++i) {
      const std::string layer = std::to_string(i);
      weights.push_back(parameters.add("weight" + layer, {3 * kSize, kInputs}, init::xavier_uniform()));
      if (with_biases) biases.push_back(parameters.add("bias" + layer, {3 * kSize}, init::normal(0, 1)));
      if (i == 0 && !evenly) parameters.add("gap", {100}, init::constant(0));
    }
    std::mt19937 random(7);
    const auto fresh = [&](const Shape& shape) {
      std::vector<float> values(size_t(shape.numel()));
      for (float& value : values) value = float(random() % 2001) / 1000 - 1;
      return Tensor::from(std::span<const float>(values), shape, device);
    };
    memory = fresh({kMemoryRows, kInputs}).set_requires_grad();
    for (int64_t i = 0; i < kLayers; ++i) {
      xs.push_back(fresh({kRows, kInputs}).set_requires_grad());
      of_queries.push_back(fresh({kRows, kSize}));
      of_keys_values.push_back(fresh({kMemoryRows, 2 * kSize}));
    }
  }

  /// Gradients of everything after a loss that weighs what is used of the layers, twice without clearing between.
  std::vector<std::vector<float>> gradients(bool at_once, int64_t without_queries, int64_t without_keys_values) const {
    parameters.clear_gradients();
    // Not what an earlier call has left: who writes first defines every element.
    for (const auto& slot : parameters.slots()) parameters.slice(parameters.gradients(), slot).fill(NAN);
    for (const Tensor& x : xs) x.clear_grad();
    memory.clear_grad();
    for (int pass = 0; pass < 2; ++pass) {
      Tape tape;
      std::optional<MemoryProjections> all;
      if (at_once) all.emplace(memory, weights, biases);
      Tensor loss;
      const auto count = [&](const Tensor& y, const Tensor& weight) {
        const Tensor term = sum(mul(y, weight));
        loss = loss.defined() ? add(loss, term) : term;
      };
      for (size_t i = 0; i < size_t(kLayers); ++i) {
        const Tensor bias = biases.empty() ? Tensor() : biases[i];
        const CrossProjection y = at_once ? CrossProjection{all->queries(i, xs[i]), all->keys_values(i)}
                                          : cross_projection(xs[i], memory, weights[i], bias);
        if (i == 0) {  // queries of another input too
          const Tensor& x = xs[kLayers - 1];
          count(at_once ? all->queries(i, x) : cross_projection(x, memory, weights[i], bias).queries, of_queries[i]);
        }
        if (int64_t(i) != without_queries) count(y.queries, of_queries[i]);
        if (int64_t(i) != without_keys_values) count(y.keys_values, of_keys_values[i]);
      }
      tape.backward(loss);
    }
    parameters.zero_unwritten_gradients();
    std::vector<std::vector<float>> all{memory.grad().to_vector<float>(), parameters.gradients().to_vector<float>()};
    for (const Tensor& x : xs)
      if (x.has_grad()) all.push_back(x.grad().to_vector<float>());
    return all;
  }
};

inline void check_memory_projections(Device device) {
  for (const bool evenly : {true, false})
    for (const bool with_biases : {true, false}) {
      const ProjectedLayers layers(device, evenly, with_biases);
      for (const auto& [queries, keys_values] :
           {std::pair<int64_t, int64_t>{-1, -1}, {1, -1}, {-1, 1}, {2, 2}, {0, 1}}) {
        CAPTURE(evenly, with_biases, queries, keys_values);
        const auto one_by_one = layers.gradients(false, queries, keys_values);
        const auto at_once = layers.gradients(true, queries, keys_values);
        REQUIRE(at_once.size() == one_by_one.size());
        for (size_t i = 0; i < at_once.size(); ++i)
          for (size_t k = 0; k < at_once[i].size(); ++k)
            REQUIRE(at_once[i][k] == Approx(one_by_one[i][k]).margin(1e-5));
      }
    }
}

}  // namespace libtrain::testing
