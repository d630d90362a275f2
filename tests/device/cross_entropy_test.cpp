/// cross_entropy on a CUDA device, where targets are not checked before kernels meet them.
#include <cmath>

#include "catch.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {

TEST_CASE("device: a target outside the vocabulary counts as no loss, has no gradient, and is noted", "[device]") {
  cuda::take_bad_index();
  for (const int32_t bad : {5, 9, -1}) {
    const Tensor logits = Tensor::zeros({3, 5}, DType::f32, Device::kCuda).set_requires_grad();
    Tape tape;
    const TokenLoss loss = cross_entropy(logits, Tensor::from<int32_t>({1, bad, -100}, {3}, Device::kCuda));
    tape.backward(loss.sum);
    CHECK(loss.sum.item() == Approx(std::log(5)));
    const auto gradient = logits.grad().to_vector<float>();
    CHECK(gradient[1] == Approx(-0.8));
    CHECK(std::vector<float>(gradient.begin() + 5, gradient.end()) == std::vector<float>(10, 0));
    const BadIndex found = cuda::take_bad_index();
    CHECK(found.op == BadIndex::kCrossEntropy);
    CHECK(found.row == 1);
    CHECK(found.value == bad);
    CHECK(found.limit == 5);
  }
}

TEST_CASE("device: cross_entropy finds the largest logit wherever it stands", "[device]") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const auto& [rows, vocab] : {std::pair<int64_t, int64_t>{67, 67}, {40, 2053}, {40, 16411}, {40, 40009}})
      for (const auto& [largest, others] : {std::pair<float, float>{300, -300}, {-300, -INFINITY}}) {
        INFO(name(dtype) << " [" << rows << ", " << vocab << "], largest " << largest);
        std::vector<float> values(size_t(rows * vocab), others);
        std::vector<int32_t> targets;
        for (int64_t row = 0; row < rows; ++row) {
          targets.push_back(int32_t(row * 411 % vocab));
          values[size_t(row * vocab + targets.back())] = largest;
        }
        const Tensor logits = Tensor::from<float>(values, {rows, vocab}, Device::kCuda).cast(dtype).set_requires_grad();
        Tape tape;
        const TokenLoss loss = cross_entropy(logits, Tensor::from<int32_t>(targets, {rows}, Device::kCuda));
        tape.backward(loss.sum);
        CHECK(loss.sum.item() == 0);
        CHECK(logits.grad().cast(DType::f32).to_vector<float>() == std::vector<float>(values.size(), 0));
      }
}

}  // namespace libtrain::testing
