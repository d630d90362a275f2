/// A run whose plan is compared with what the allocator says while it trains: for the tests on the CPU and on a device.
#pragma once
#include <random>

#include "libtrain/libtrain.h"

namespace libtrain::testing {

/// A model and the batches that it trains on.
struct PlannedCase {
  const char* name;
  int64_t size = 64, layers = 2, vocab = 300;
  int64_t source_length = 12, target_length = 12;  // longest
  BucketedBatchesOptions batching = {.tokens = 2000};
  bool mixed_precision = false;
  int pairs = 800;
};

inline std::vector<Pair> pairs_of(const PlannedCase& c) {
  std::mt19937_64 generator(7);
  const auto sequence = [&](int64_t longest) {
    const auto length = size_t(longest / 2 + int64_t(generator() % uint64_t(longest / 2 + 1)));
    std::vector<int32_t> ids(length);
    for (int32_t& id : ids) id = int32_t(kSpecialTokens + generator() % uint64_t(c.vocab - kSpecialTokens));
    return ids;
  };
  std::vector<Pair> pairs;
  for (int i = 0; i < c.pairs; ++i) pairs.push_back({sequence(c.source_length), sequence(c.target_length)});
  return pairs;
}

struct PlannedRun {
  std::vector<Pair> pairs;
  Parameters parameters;
  Transformer model;
  BucketedBatches batches;

  PlannedRun(const PlannedCase& c, Device device, int64_t tokens = 0)
      : pairs(pairs_of(c)),
        parameters({.mixed_precision = c.mixed_precision, .device = device, .seed = 3}),
        model(parameters, {.source_vocab = c.vocab,
                           .target_vocab = c.vocab,
                           .encoder_layers = c.layers,
                           .decoder_layers = c.layers,
                           .layer = {.size = c.size, .heads = 4, .feed_forward_size = 2 * c.size, .dropout = 0.1f}}),
        batches(pairs, batching_of(c, device, tokens)) {}

  MemoryPlan plan(const MemoryPlanOptions& options = {}) {
    return plan_memory(
        parameters, batches, [this](const Batch& batch) { return model.loss(batch); }, options);
  }
  /// Most bytes in use while an epoch is trained.
  int64_t measured_peak(const std::optional<Optimizer>& optimizer = {}) {
    TrainLoop loop(parameters, batches, [this](const Batch& batch) { return model.loss(batch); },
                   {.clip_norm = 1, .optimizer = optimizer});
    reset_peak(parameters.device());
    loop.run();
    return allocator_stats(parameters.device()).peak_bytes_in_use;
  }

 private:
  static BucketedBatchesOptions batching_of(const PlannedCase& c, Device device, int64_t tokens) {
    BucketedBatchesOptions options = c.batching;
    options.batch.device = device;
    if (tokens > 0) options.tokens = tokens;
    return options;
  }
};

/// Share by which the activations of a plan differ from what a run needed beside all else in the plan.
inline double activations_error(const MemoryPlan& plan, int64_t measured_peak) {
  const auto measured = double(measured_peak - (plan.peak() - plan.activations));
  return std::abs(double(plan.activations) / measured - 1);
}

inline std::vector<PlannedCase> planned_cases() {
  return {
      {"tokens"},
      {.name = "pairs", .batching = {.tokens = 0, .pairs = 64}},
      {.name = "long targets", .source_length = 6, .target_length = 40},
      {.name = "long sources", .layers = 1, .source_length = 60, .target_length = 5},
      {.name = "few long sequences", .source_length = 300, .target_length = 300, .pairs = 40},
      {.name = "wide", .size = 128, .layers = 1},
      {.name = "bf16", .mixed_precision = true},
      {.name = "whole buckets",
       .batching = {.tokens = 1500, .batch = {.capacity_multiple = 512, .pairs_multiple = 16, .length_multiple = 8}}}};
}

}  // namespace libtrain::testing
