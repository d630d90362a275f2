// Whole training steps: forward, backward, clip to norm 1 and Adam of an encoder-decoder in bf16 with f32 masters, dropout 0.1, enqueued kernel
// by kernel ("eager"), as one graph ("graph"), and as one in which gradients of weights are made beside the rest of backward ("two streams"). Four batches in turn, of one layout and already on the device.
//
// FLOP of a step, biases and norms ignored (S, T: source and target tokens; s, t: lengths, so that sums go over pairs; d, f: size and inner size;
// V: vocabulary; E, D: layers), products forward and backward first, then attention, which counts half of the causal scores:
//   6 [S E (4 d² + 2 d f) + S D 2 d² + T D (6 d² + 2 d f) + T V d] + 3 [E 4 d Σs² + D (2 d Σt² + 4 d Σ s t)]
#include <chrono>
#include <random>

#include "gpu_measure.h"

namespace libtrain::bench {
namespace {

struct StepModel {
  std::string name;
  int64_t layers, size, heads, inner, vocab;
  int64_t pairs, lengths;  // pair i has 6 + i mod `lengths` tokens on either side
};

const std::vector<StepModel> kModels{
    {"base", 6, 512, 8, 2048, 32000, 606, 43},  // 16,284 tokens on either side, 27 on average
    {"big", 6, 1024, 16, 4096, 32000, 606, 43}};
const std::vector<StepModel> kSmallModels{{"base", 1, 64, 2, 128, 96, 12, 5}, {"big", 1, 128, 2, 256, 96, 12, 5}};

std::vector<int64_t> lengths_of(const StepModel& m) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < m.pairs; ++i) lengths.push_back(6 + i % m.lengths);
  return lengths;
}

double flops_of(const StepModel& m) {
  const double d = double(m.size), f = double(m.inner), layers = double(m.layers);
  double tokens = 0, squares = 0;
  for (const int64_t length : lengths_of(m)) tokens += double(length), squares += double(length * length);
  const double encoder = layers * (4 * d * d + 2 * d * f), decoder = layers * (8 * d * d + 2 * d * f);
  return 6 * tokens * (encoder + decoder + double(m.vocab) * d) + 3 * squares * d * layers * 10;
}

/// Batches of one layout: the same lengths in other orders, with other words.
class EqualBatches : public BatchSource<Batch> {
 public:
  explicit EqualBatches(const StepModel& m) {
    std::mt19937 random(1);
    std::vector<int64_t> lengths = lengths_of(m);
    for (int i = 0; i < 4; ++i) {
      std::shuffle(lengths.begin(), lengths.end(), random);
      std::vector<Pair> pairs;
      for (const int64_t length : lengths)
        pairs.push_back({words(length, m.vocab, random), words(length, m.vocab, random)});
      batches_.push_back(make_batch(std::span<const Pair>(pairs),
                                    {.capacity_multiple = 1024, .pairs_multiple = 64, .length_multiple = 16})
                             .to(Device::kCuda));
    }
  }
  int64_t begin_epoch(int64_t) override { return int64_t(1) << 40; }
  Batch get(int64_t index) override { return batches_[size_t(index) % batches_.size()]; }
  int64_t target_tokens() const { return batches_.front().target_tokens; }

 private:
  /// `length` ids, kEos not among them but counted; small ones are common, as words are.
  static std::vector<int32_t> words(int64_t length, int64_t vocab, std::mt19937& random) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i + 1 < length; ++i) {
      const double u = double(random()) * 0x1p-32;
      ids.push_back(int32_t(4 + double(vocab - 4) * u * u));
    }
    return ids;
  }

  std::vector<Batch> batches_;
};

TransformerOptions options_of(const StepModel& m) {
  return {.source_vocab = m.vocab,
          .target_vocab = m.vocab,
          .encoder_layers = m.layers,
          .decoder_layers = m.layers,
          .layer = {.size = m.size, .heads = m.heads, .feed_forward_size = m.inner, .dropout = 0.1f},
          .tying = Tying::kAll};
}

/// Microseconds of a step, from the host's clock around `steps` of them and the wait for the last.
double time_steps(TrainLoop& loop, int steps) {
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < steps; ++i) loop.step();
  cuda::synchronize();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count() / steps;
}

/// A way to give a step to the device.
struct Way {
  std::string name;
  bool graphs = false, weight_gradient_stream = false;
};
const std::vector<Way> kWays{{"eager"}, {"graph", true}, {"graph two streams", true, true}};

void run(const StepModel& m, const Way& way, const std::string& name, const Roofs& roofs, bool small) {
  const int rounds = small ? 2 : 9, steps = small ? 2 : 10;
  Parameters parameters({.mixed_precision = true, .device = Device::kCuda});
  const Transformer model(parameters, options_of(m));
  EqualBatches batches(m);
  TrainLoop loop(parameters, batches, [&](const Batch& batch) { return model.loss(batch); },
                 {.clip_norm = 1,
                  .adam = {.learning_rate = 1e-4},
                  .graphs = way.graphs,
                  .weight_gradient_stream = way.weight_gradient_stream});
  int64_t launches = cuda::counters().launches;
  loop.step();
  launches = cuda::counters().launches - launches;  // a captured step launches the same, once
  time_steps(loop, small ? 2 : 10);
  const int64_t graph_launches = cuda::counters().graph_launches;
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) times.push_back(time_steps(loop, steps));
  const Percentiles us = percentiles(times);
  const double graphs_a_step = double(cuda::counters().graph_launches - graph_launches) / (rounds * steps);
  print(name, 0, flops_of(m), us, roofs,
        format_message(",\"target_tokens_per_s\":{:.0f},\"launches\":{},\"graphs\":{:g},\"peak_MiB\":{}",
                       double(batches.target_tokens()) / us.median * 1e6, launches, graphs_a_step,
                       allocator_stats(Device::kCuda).peak_bytes_in_use >> 20));
}

}  // namespace

bool run_steps(const Roofs& roofs, bool small, const std::string& filter) {
  bool any = false;
  for (const StepModel& model : small ? kSmallModels : kModels)
    for (const Way& way : kWays) {
      const std::string name = "step " + model.name + " " + way.name + " bf16";
      if (name.find(filter) == std::string::npos) continue;
      reset_peak(Device::kCuda);
      run(model, way, name, roofs, small);
      any = true;
    }
  return any;
}

}  // namespace libtrain::bench
