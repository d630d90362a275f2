// Learns to spell words backwards: data made here, a model, a TrainLoop, a loss that falls.
#include <libtrain/libtrain.h>

#include <cstdio>
#include <random>

using libtrain::Pair;

/// Words of 3 to 8 letters, each with the same letters backwards.
std::vector<Pair> make_pairs(int count, int letters) {
  std::mt19937 random(1);
  std::vector<Pair> pairs(count);
  for (Pair& pair : pairs) {
    pair.source.resize(3 + random() % 6);
    for (int32_t& id : pair.source) id = libtrain::kSpecialTokens + int32_t(random() % letters);
    pair.target.assign(pair.source.rbegin(), pair.source.rend());
  }
  return pairs;
}

int main() {
  constexpr int kLetters = 10, kVocab = libtrain::kSpecialTokens + kLetters;
  const std::vector<Pair> pairs = make_pairs(2000, kLetters);
  libtrain::BucketedBatches batches(pairs, {.pairs = 50});

  libtrain::Parameters parameters;
  libtrain::Transformer model(parameters, {.source_vocab = kVocab,
                                           .target_vocab = kVocab,
                                           .encoder_layers = 1,
                                           .decoder_layers = 1,
                                           .layer = {.size = 64, .heads = 4, .feed_forward_size = 128, .dropout = 0}});
  libtrain::TrainLoop loop(
      parameters, batches, [&](const libtrain::Batch& batch) { return model.loss(batch); },
      {.epochs = 8, .clip_norm = 1, .adam = {.learning_rate = 3e-3}, .schedule = libtrain::inverse_sqrt_schedule(50)});
  double loss = 0;
  loop.on_epoch([&](const libtrain::EpochReport& report) {
    loss = report.loss;
    std::printf("epoch %d: %.4f nats per letter\n", int(report.epoch) + 1, loss);
  });
  loop.run();

  if (loss < 0.5) return 0;
  std::fprintf(stderr, "the loss did not fall below 0.5\n");
  return 1;
}
