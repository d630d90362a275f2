/// Training with gradients of weights on a second stream must have the bits of training without: shared by the tests that run it as the device does,
/// and those that choose which stream gets on.
#pragma once
#include <vector>

#include "catch.h"
#include "train/toy.h"

namespace libtrain::testing {

/// How a small transformer is trained.
struct SideStreamRun {
  bool on = false, graphs = false, mixed_precision = false;
  int64_t accumulate = 1;
  Device device = Device::kCuda;
  bool operator==(const SideStreamRun&) const = default;
};

struct SideStreamOutcome {
  std::vector<double> weights, losses;
  int64_t launches = 0, graph_launches = 0, peak = 0;  // of kernels, of graphs; bytes
};

/// Two layers on either side, one table for source, target and output: its gradient has writers on both streams.
inline SideStreamOutcome train_beside(const SideStreamRun& run) {
  Parameters parameters({.mixed_precision = run.mixed_precision, .device = run.device, .seed = 5});
  TransformerOptions shape = toy_options(0.1f);
  shape.encoder_layers = shape.decoder_layers = 2;
  shape.tying = Tying::kAll;
  const Transformer model(parameters, shape);
  const auto pairs = reversal_pairs(40);
  BucketedBatchesOptions buckets{.pairs = 8, .batches_per_bucket = 2};
  buckets.batch = {.capacity_multiple = 32, .pairs_multiple = 8, .length_multiple = 8};
  buckets.batch.device = run.device;
  BucketedBatches batches(pairs, buckets);
  TrainLoop loop(parameters, batches, [&](const Batch& batch) { return model.loss(batch); },
                 {.epochs = 2,
                  .accumulate = run.accumulate,
                  .clip_norm = 0.5,
                  .adam = {.learning_rate = 5e-3},
                  .graphs = run.graphs,
                  .weight_gradient_stream = run.on});
  SideStreamOutcome outcome;
  loop.on_step([&](const StepReport& r) { outcome.losses.push_back(r.loss); });
  const bool on_device = run.device == Device::kCuda;
  if (on_device) reset_peak(run.device);
  const auto counted = [&] { return on_device ? cuda::counters() : cuda::Counters{}; };
  const cuda::Counters before = counted();
  const int64_t held = allocator_stats(run.device).bytes_in_use;
  loop.run();
  outcome.peak = allocator_stats(run.device).peak_bytes_in_use - held;
  outcome.launches = counted().launches - before.launches;
  outcome.graph_launches = counted().graph_launches - before.graph_launches;
  outcome.weights = parameters.values().cast(DType::f64).to_vector<double>();
  return outcome;
}

/// Eagerly and as graphs: what training gives with the second stream is what `off` is, which was trained without.
inline void check_beside(SideStreamRun run, const SideStreamOutcome& off) {
  for (const bool graphs : {false, true}) {
    CAPTURE(graphs);
    run.on = true;
    run.graphs = graphs;
    const SideStreamOutcome on = train_beside(run);
    CHECK(on.losses == off.losses);
    CHECK(on.weights == off.weights);
    CHECK((on.graph_launches > 3) == graphs);
  }
}

/// The cases, each with the outcome without a second stream.
inline void check_all_beside() {
  for (const SideStreamRun& run :
       {SideStreamRun{}, SideStreamRun{.accumulate = 3}, SideStreamRun{.mixed_precision = true}}) {
    CAPTURE(run.accumulate, run.mixed_precision);
    check_beside(run, train_beside(run));
  }
}

}  // namespace libtrain::testing
