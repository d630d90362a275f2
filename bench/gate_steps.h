/// The training steps that the gate counts: small, but with every kernel of a real one.
#pragma once
#include "libtrain/libtrain.h"

namespace libtrain::gate {

/// A loop over one batch, again and again.
struct Steps {
  std::vector<Pair> pairs;
  Parameters parameters;
  Transformer model;
  BucketedBatches batches;
  TrainLoop loop;

  Steps(const ParametersOptions& store, const TransformerOptions& options, int64_t pair_count, int64_t length)
      : pairs(size_t(pair_count),
              {std::vector<int32_t>(size_t(length - 1), 5), std::vector<int32_t>(size_t(length - 1), 6)}),
        parameters(store),
        model(parameters, options),
        batches(pairs, {.pairs = pair_count, .shuffle = false, .prefetch = 0, .batch = {.device = store.device}}),
        loop(parameters, batches, [this](const Batch& batch) { return model.loss(batch); },
             {.epochs = 1000, .clip_norm = 1}) {}
};

inline TransformerOptions model_of(int64_t layers, int64_t size, int64_t vocab) {
  return {.source_vocab = vocab,
          .target_vocab = vocab,
          .encoder_layers = layers,
          .decoder_layers = layers,
          .layer = {.size = size, .heads = 4, .feed_forward_size = 4 * size, .dropout = 0.1f}};
}

}  // namespace libtrain::gate
