// A multilayer perceptron that reads handwritten digits: data, batches and model of its own, a TrainLoop, and a score on images that it has
// not seen.
//
//   digits data/digits.csv
#include <libtrain/libtrain.h>

#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>

using libtrain::Tensor;

constexpr int64_t kPixels = 64, kDigits = 10, kTestImages = 360;

/// Images of 8 by 8 pixels from 0 to 1, and which digits they are.
struct Images {
  std::vector<float> pixels;
  std::vector<int32_t> digits;

  int64_t count() const { return int64_t(digits.size()); }
  /// What a mini-batch is here.
  struct Batch {
    Tensor pixels, digits;  // [images, kPixels], i32[images]
  };
  Batch batch(std::span<const size_t> which) const {
    Images chosen;
    for (const size_t i : which) {
      chosen.pixels.insert(chosen.pixels.end(), pixels.begin() + int64_t(i) * kPixels,
                           pixels.begin() + int64_t(i + 1) * kPixels);
      chosen.digits.push_back(digits[i]);
    }
    return {Tensor::from<float>(chosen.pixels, {chosen.count(), kPixels}),
            Tensor::from<int32_t>(chosen.digits, {chosen.count()})};
  }
};

/// One image a line: 64 pixels from 0 to 16, and its digit.
Images read_images(const char* path) {
  Images images;
  std::ifstream file(path);
  for (std::string line, cell; std::getline(file, line);) {
    std::istringstream cells(line);
    for (int64_t i = 0; i < kPixels && std::getline(cells, cell, ','); ++i)
      images.pixels.push_back(std::stof(cell) / 16);
    std::getline(cells, cell);
    images.digits.push_back(std::stoi(cell));
  }
  LIBTRAIN_CHECK(images.count() > kTestImages, "[digits] {} holds {} images", path, images.count());
  return images;
}

/// The first `count` images, in an order that epoch and seed define.
class ShuffledImages : public libtrain::BatchSource<Images::Batch> {
 public:
  ShuffledImages(const Images& images, int64_t count, int64_t batch) : images_(images), order_(count), batch_(batch) {}

  int64_t begin_epoch(int64_t epoch) override {
    std::mt19937_64 random(1 + epoch);
    for (size_t i = 0; i < order_.size(); ++i) order_[i] = i;
    std::shuffle(order_.begin(), order_.end(), random);
    return int64_t(order_.size()) / batch_;
  }
  Images::Batch get(int64_t index) override {
    return images_.batch(std::span(order_).subspan(size_t(index * batch_), size_t(batch_)));
  }

 private:
  const Images& images_;
  std::vector<size_t> order_;
  int64_t batch_;
};

double share_right(const Tensor& logits, const Tensor& digits) {
  const auto scores = logits.to_vector<float>();
  const auto expected = digits.to_vector<int32_t>();
  int64_t right = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const float* row = scores.data() + i * kDigits;
    right += std::max_element(row, row + kDigits) - row == expected[i];
  }
  return double(right) / double(expected.size());
}

int main(int argc, char** argv) {
  LIBTRAIN_CHECK(argc == 2, "[digits] expected the path of digits.csv, got {} arguments", argc - 1);
  const Images images = read_images(argv[1]);
  ShuffledImages batches(images, images.count() - kTestImages, 32);

  libtrain::Parameters parameters;
  libtrain::Sequential model(parameters, "");
  model.add<libtrain::Linear>(kPixels, 256).add(libtrain::relu).add<libtrain::Dropout>(0.5f);
  model.add<libtrain::Linear>(256, kDigits);
  parameters.reset([](const auto& slot) { return slot.name == "0.weight"; }, libtrain::init::by_name("kaiming_normal"));
  parameters.set_group([](const auto& slot) { return slot.value.rank() < 2; }, {.decay = 0});
  std::printf("%s", parameters.str().c_str());

  libtrain::TrainLoop loop(parameters, batches,
                           [&](const Images::Batch& batch) { return cross_entropy(model(batch.pixels), batch.digits); },
                           {.epochs = 60,
                            .adam = {.learning_rate = 3e-3, .beta2 = 0.999, .weight_decay = 0.05},
                            .schedule = libtrain::cosine_schedule(40, 60 * 44)});
  loop.on_epoch([](const libtrain::EpochReport& report) {
    std::printf("epoch %d: loss %.4f\n", int(report.epoch) + 1, report.loss);
  });
  loop.run();

  std::vector<size_t> test;
  for (int64_t i = images.count() - kTestImages; i < images.count(); ++i) test.push_back(size_t(i));
  const Images::Batch unseen = images.batch(test);
  const double score = share_right(model(unseen.pixels), unseen.digits);  // without a tape there is no dropout
  std::printf("%.1f %% of %d unseen images read right\n", 100 * score, int(kTestImages));
  return score >= 0.91 ? 0 : 1;
}
