// A language model over the characters of a text, with gated recurrent units: the state goes on from window to window, gradients do not.
//
//   gru_text /usr/share/common-licenses/GPL-3
#include <libtrain/libtrain.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>

using libtrain::Tensor;

constexpr int64_t kStreams = 16, kSteps = 32, kSize = 128;

/// A text in numbers, cut into windows of kSteps characters from each of kStreams places: the windows of a place follow on each other.
class Text {
 public:
  Text(const std::string& text, const std::map<char, int32_t>& id_of)
      : windows_(int64_t(text.size() - 1) / (kStreams * kSteps)) {
    LIBTRAIN_CHECK(windows_ > 0, "[gru_text] a text of {} characters is too short", text.size());
    for (const char c : text) ids_.push_back(id_of.at(c));
  }
  int64_t windows() const { return windows_; }
  /// i32[kSteps, kStreams]: the characters of a window, or (shift 1) the ones that follow them.
  Tensor window(int64_t index, int64_t shift) const {
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < kSteps; ++t)
      for (int64_t s = 0; s < kStreams; ++s) ids.push_back(ids_[size_t((s * windows_ + index) * kSteps + t + shift)]);
    return Tensor::from<int32_t>(ids, {kSteps, kStreams});
  }

 private:
  std::vector<int32_t> ids_;
  int64_t windows_;
};

/// The windows of a text in their order: what a TrainLoop trains on.
struct Windows : libtrain::BatchSource<int64_t> {
  explicit Windows(int64_t count) : count(count) {}
  int64_t begin_epoch(int64_t) override { return count; }
  int64_t get(int64_t index) override { return index; }
  int64_t count;
};

class Model {
 public:
  Model(libtrain::Parameters& parameters, int64_t vocab)
      : table_(parameters.add("embedding.weight", {vocab, kSize}, libtrain::init::normal(0, 0.1))),
        gru_(parameters, "gru", kSize, kSize),
        output_(parameters, "output", kSize, vocab) {}

  /// ids i32[steps, streams] → logits [steps, streams, vocab]; states go on from what they were.
  Tensor operator()(const Tensor& ids, std::vector<Tensor>& states) const {
    const Tensor x = embedding(ids.reshape({-1}), table_).reshape({ids.dim(0), ids.dim(1), kSize});
    return output_(gru_(x, states));
  }

 private:
  Tensor table_;
  libtrain::GRU gru_;
  libtrain::Linear output_;
};

/// Nats per character of a text that the model has not seen.
double loss_on(const Model& model, const Text& text) {
  std::vector<Tensor> states;
  double sum = 0;
  for (int64_t i = 0; i < text.windows(); ++i)
    sum += cross_entropy(model(text.window(i, 0), states), text.window(i, 1)).mean().item();
  return sum / double(text.windows());
}

/// The most probable character after each character, from `start` on.
std::string most_probable(const Model& model, const std::string& alphabet, int32_t start, int length) {
  std::vector<Tensor> states;
  std::string text;
  for (int32_t id = start; int(text.size()) < length; text += alphabet[size_t(id)]) {
    const auto scores = model(Tensor::from<int32_t>({id}, {1, 1}), states).to_vector<float>();
    id = int32_t(std::max_element(scores.begin(), scores.end()) - scores.begin());
  }
  return text;
}

int main(int argc, char** argv) {
  LIBTRAIN_CHECK(argc == 2, "[gru_text] expected the path of a text, got {} arguments", argc - 1);
  std::ifstream file(argv[1]);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::map<char, int32_t> id_of;
  for (const char c : text) id_of[c] = 0;
  std::string alphabet;
  for (auto& [c, id] : id_of) id = int32_t(alphabet.size()), alphabet += c;
  const size_t cut = text.size() * 9 / 10;
  const Text train(text.substr(0, cut), id_of), unseen(text.substr(cut), id_of);

  libtrain::Parameters parameters;
  const Model model(parameters, int64_t(alphabet.size()));
  Windows windows(train.windows());
  std::vector<Tensor> states;
  libtrain::TrainLoop loop(parameters, windows,
                           [&](int64_t index) {
                             if (index == 0) states.clear();
                             for (Tensor& state : states)
                               state = state.detach();  // gradients end where the window begins
                             return cross_entropy(model(train.window(index, 0), states), train.window(index, 1));
                           },
                           {.epochs = 12,
                            .clip_norm = 1,
                            .adam = {.learning_rate = 4e-3},
                            .schedule = libtrain::cosine_schedule(20, 12 * windows.count)});
  loop.on_epoch([](const libtrain::EpochReport& report) {
    std::printf("epoch %d: %.3f nats per character\n", int(report.epoch) + 1, report.loss);
  });
  loop.run();

  const double score = loss_on(model, unseen);
  std::printf("%s\nunseen text: %.3f nats per character\n", most_probable(model, alphabet, id_of.at(' '), 200).c_str(),
              score);
  return score < 2.1 ? 0 : 1;
}
