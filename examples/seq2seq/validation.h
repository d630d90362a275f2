/// The loss on pairs that are not trained on.
#pragma once
#include <span>

#include "examples/seq2seq/trained_model.h"
#include "libtrain/data/batch_source.h"

namespace seq2seq {

/// Batches for these pairs that hold no more pairs, and no more tokens on a side, than the largest of `training` in the epoch begun last; but a
/// pair that is longer than that is a batch of its own.
libtrain::BucketedBatchesOptions validation_batches(std::span<const libtrain::Pair> pairs,
                                                    const libtrain::BucketedBatches& training, libtrain::Device device);

/// Mean loss per target, without a tape and so without dropout.
double validation_loss(const TrainedModel& model, libtrain::BucketedBatches& batches);

}  // namespace seq2seq
