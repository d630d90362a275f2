// A decoder-only transformer over the characters of a text, as small as it gets: decoder_text /usr/share/common-licenses/GPL-3
#include <libtrain/libtrain.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <random>

using libtrain::Tensor;

constexpr int64_t kContext = 64, kSize = 96, kHeads = 4, kLayers = 2, kSequences = 8;

/// `count` sequences of kContext tokens each, one behind the other.
libtrain::Packing packed(int64_t count) {
  return libtrain::make_packing(std::vector<int64_t>(size_t(count), kContext));
}

/// x + attention(norm(x)), then the same with two linear maps.
class Block {
 public:
  Block(libtrain::Parameters& parameters, const std::string& name)
      : norm1_(parameters, name + ".norm1", kSize),
        norm2_(parameters, name + ".norm2", kSize),
        attention_(parameters, name + ".attention", kSize, kHeads, 0.1f),
        feed_forward_(parameters, name, kSize, 4 * kSize, libtrain::Activation::kGelu, 0.1f) {}

  Tensor operator()(const Tensor& x, const libtrain::Packing& packing) const {
    const Tensor y = add(x, attention_.self(norm1_(x), packing, true));
    return add(y, feed_forward_(norm2_(y), packing));
  }

 private:
  libtrain::RMSNorm norm1_, norm2_;
  libtrain::MultiHeadAttention attention_;
  libtrain::FeedForward feed_forward_;
};

class Model {
 public:
  Model(libtrain::Parameters& parameters, int64_t vocab)
      : embedding_(parameters, "embedding", vocab, kSize, kContext), norm_(parameters, "norm", kSize) {
    for (int64_t i = 0; i < kLayers; ++i) blocks_.emplace_back(parameters, "blocks." + std::to_string(i));
  }
  /// ids i32[tokens] → logits [tokens, vocab]
  Tensor operator()(const Tensor& ids, const libtrain::Packing& packing) const {
    Tensor x = embedding_(ids, packing);
    for (const Block& block : blocks_) x = block(x, packing);
    return linear(norm_(x), embedding_.table());  // tied
  }

 private:
  libtrain::Embedding embedding_;
  libtrain::RMSNorm norm_;
  std::vector<Block> blocks_;
};

/// Pieces of a text, drawn by epoch and index alone, and the same shifted by one.
struct Pieces : libtrain::BatchSource<std::pair<Tensor, Tensor>> {
  Pieces(std::span<const int32_t> ids, int64_t batches) : ids(ids), batches(batches) {}
  int64_t begin_epoch(int64_t number) override { return epoch = number, batches; }
  std::pair<Tensor, Tensor> get(int64_t index) override {
    std::mt19937_64 random(uint64_t(epoch * batches + index));
    std::vector<int32_t> input, target;
    for (int64_t s = 0; s < kSequences; ++s) {
      const auto begin = ids.begin() + int64_t(random() % (ids.size() - kContext));
      input.insert(input.end(), begin, begin + kContext);
      target.insert(target.end(), begin + 1, begin + kContext + 1);
    }
    return {Tensor::from<int32_t>(input, {int64_t(input.size())}),
            Tensor::from<int32_t>(target, {int64_t(target.size())})};
  }
  std::span<const int32_t> ids;
  int64_t batches, epoch = 0;
};

/// Draws the next token from softmax(logits / temperature).
int32_t sample(const std::vector<float>& logits, double temperature, std::mt19937_64& random) {
  std::vector<double> weights;
  for (const float x : logits) weights.push_back(std::exp(double(x) / temperature));
  return int32_t(std::discrete_distribution<int>(weights.begin(), weights.end())(random));
}

int main(int argc, char** argv) {
  LIBTRAIN_CHECK(argc == 2, "[decoder_text] expected the path of a text, got {} arguments", argc - 1);
  std::ifstream file(argv[1]);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::map<char, int32_t> id_of;
  for (const char c : text) id_of[c] = 0;
  std::map<int32_t, char> letter_of;
  for (auto& [c, id] : id_of) letter_of[id = int32_t(libtrain::kSpecialTokens + letter_of.size())] = c;
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(id_of[c]);
  const auto all = std::span<const int32_t>(ids);

  libtrain::Parameters parameters;
  const Model model(parameters, int64_t(libtrain::kSpecialTokens + letter_of.size()));
  const auto loss = [&](const std::pair<Tensor, Tensor>& piece) {
    return cross_entropy(model(piece.first, packed(kSequences)), piece.second);
  };
  Pieces train(all.first(ids.size() * 9 / 10), 50), unseen(all.subspan(ids.size() * 9 / 10), 10);
  libtrain::TrainLoop loop(
      parameters, train, loss,
      {.epochs = 12, .clip_norm = 1, .adam = {.learning_rate = 3e-3}, .schedule = libtrain::cosine_schedule(50, 600)});
  loop.on_epoch([](const auto& r) { std::printf("epoch %d: %.3f nats per character\n", int(r.epoch) + 1, r.loss); });
  loop.run();

  double score = 0;
  for (int64_t i = 0; i < unseen.batches; ++i) score += loss(unseen.get(i)).mean().item() / double(unseen.batches);
  std::mt19937_64 random(1);
  std::vector<int32_t> sampled(all.begin(), all.begin() + kContext);
  for (int i = 0; i < 200; ++i) {
    const Tensor window = Tensor::from<int32_t>(std::span(sampled).last(kContext), {kContext});
    sampled.push_back(sample(model(window, packed(1)).rows(kContext - 1, kContext).to_vector<float>(), 0.7, random));
    std::putchar(letter_of.contains(sampled.back()) ? letter_of[sampled.back()] : '?');
  }
  std::printf("\nunseen text: %.3f nats per character\n", score);
  return score < 2.3 ? 0 : 1;
}
