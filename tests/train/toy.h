/// A tiny transformer and a task that it can learn: shared by the tests of training.
#pragma once
#include <random>

#include "libtrain/libtrain.h"

namespace libtrain::testing {

inline constexpr int64_t kToyVocab = 14;

/// Random sequences of 1 to 6 tokens, each to be reversed.
inline std::vector<Pair> reversal_pairs(int count, uint64_t seed = 1) {
  std::mt19937_64 generator(seed);
  std::vector<Pair> pairs(static_cast<size_t>(count));
  for (Pair& pair : pairs) {
    pair.source.resize(1 + generator() % 6);
    for (int32_t& id : pair.source) id = int32_t(kSpecialTokens + generator() % uint64_t(kToyVocab - kSpecialTokens));
    pair.target.assign(pair.source.rbegin(), pair.source.rend());
  }
  return pairs;
}

inline TransformerOptions toy_options(float dropout = 0, bool pre_norm = true,
                                      Activation activation = Activation::kRelu) {
  return {.source_vocab = kToyVocab,
          .target_vocab = kToyVocab,
          .encoder_layers = 1,
          .decoder_layers = 1,
          .layer = {.size = 16,
                    .heads = 2,
                    .feed_forward_size = 32,
                    .activation = activation,
                    .dropout = dropout,
                    .pre_norm = pre_norm},
          .max_positions = 64};
}

/// A store, its model and a loop over given pairs: everything that a run needs.
struct ToyRun {
  Parameters parameters;
  Transformer model;
  BucketedBatches batches;
  TrainLoop loop;

  ToyRun(std::span<const Pair> pairs, const TrainOptions& options, float dropout = 0, DType dtype = DType::f32,
         const BucketedBatchesOptions& batching = {.pairs = 8, .batches_per_bucket = 2})
      : ToyRun(pairs, options, dropout, ParametersOptions{.dtype = dtype, .seed = 5}, batching) {}

  /// On the device that `store` names.
  ToyRun(std::span<const Pair> pairs, const TrainOptions& options, float dropout, const ParametersOptions& store,
         BucketedBatchesOptions batching = {.pairs = 8, .batches_per_bucket = 2},
         Activation activation = Activation::kRelu)
      : parameters(store),
        model(parameters, toy_options(dropout, true, activation)),
        batches(pairs, (batching.batch.device = store.device, batching)),
        loop(
            parameters, batches, [this](const Batch& batch) { return model.loss(batch); }, options) {}

  std::vector<double> weights() const { return parameters.values().cast(DType::f64).to_vector<double>(); }
};

}  // namespace libtrain::testing
