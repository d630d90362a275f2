#include "examples/seq2seq/validation.h"

#include <algorithm>

namespace seq2seq {

libtrain::BucketedBatchesOptions validation_batches(std::span<const libtrain::Pair> pairs,
                                                    const libtrain::BucketedBatches& training,
                                                    libtrain::Device device) {
  libtrain::BucketedBatchesOptions options{.shuffle = false, .batch = {.device = device}};
  for (const libtrain::BatchSize& size : training.sizes()) {
    options.pairs = std::max(options.pairs, size.pairs);
    options.tokens = std::max({options.tokens, size.source_tokens, size.target_tokens});
  }
  for (const libtrain::Pair& pair : pairs)
    options.tokens = std::max(options.tokens, int64_t(std::max(pair.source.size(), pair.target.size())) + 1);
  return options;
}

double validation_loss(const TrainedModel& model, libtrain::BucketedBatches& batches) {
  double sum = 0, count = 0;
  for (int64_t i = 0, n = batches.begin_epoch(0); i < n; ++i) {
    const auto loss = model.transformer.loss(batches.get(i));
    sum += loss.sum.item();
    count += loss.count.item();
  }
  return sum / count;
}

}  // namespace seq2seq
