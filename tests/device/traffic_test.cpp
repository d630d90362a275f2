/// What the kernels ask of memory, against the fewest bytes that the launch could have moved: measured while they are executed on the CPU,
/// at shapes that divide into packs as those of real models do.
#include <cstdio>
#include <map>

#include "catch.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/traffic.h"
#include "train/toy.h"

namespace libtrain::testing {
namespace {

namespace executor = kernels::executor;

/// Most requested bytes per compulsory byte. One pass over everything is 1; what is above it says why.
struct Limit {
  double ratio;
  const char* reason;
};
constexpr Limit kOnePass{1.1, "one pass"};
const std::map<std::string, Limit> kLimits{};

Tensor random(const Shape& shape, DType dtype, uint64_t seed) {
  std::vector<float> values(size_t(shape.numel()));
  std::mt19937_64 generator(seed);
  for (float& value : values) value = float(generator() % 2001) / 1000.0f - 1;
  const Tensor tensor = Tensor::from(std::span<const float>(values), shape).cast(dtype).to(Device::kCuda);
  tensor.set_requires_grad();
  return tensor;
}

/// Forward and backward of every operation of a training step, once.
void one_of_each(DType dtype) {
  constexpr int64_t kTokens = 192, kWidth = 256, kVocab = 512;
  const Tensor random_state = Tensor::from<int64_t>({1, 2}, {2}, Device::kCuda);
  const DropoutSpec drop{0.1f, 3, random_state};
  const std::vector<int64_t> lengths(6, 32);
  const Packing packing = make_packing(lengths, Device::kCuda);
  std::vector<int32_t> numbers(kTokens);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = int32_t((i * i * 7) % kVocab);
  const Tensor ids = Tensor::from(std::span<const int32_t>(numbers), {kTokens}, Device::kCuda);

  Tape tape;
  const Tensor table = random({kVocab, kWidth}, dtype, 1), w = random({kWidth}, dtype, 2),
               b = random({kWidth}, dtype, 3);
  const Tensor qkv_weight = random({3 * kWidth, kWidth}, dtype, 4);
  Tensor x = dropout(embedding(ids, table, 16), packing, drop);
  x = layer_norm(x, w, b);
  x = rms_norm(x, w);
  x = add_dropout_layer_norm(x, scale(x, 0.5), b, w, b, packing, drop).y;
  x = dropout_add(x, self_attention(linear(x, qkv_weight), packing, {.heads = 4, .causal = true, .dropout = drop}),
                  packing, drop);
  x = add(gelu(x), b);
  x = relu(x);
  const TokenLoss loss = cross_entropy(linear(x, table), ids);
  tape.backward(loss.sum);
}

}  // namespace

TEST_CASE("traffic: kernels ask for hardly more than they must", "[traffic]") {
  if (!executor::instrumented()) {
    WARN("these kernels are not instrumented: run with LD_LIBRARY_PATH on the instrumented ones");
    return;
  }
  executor::set_observer(executor::Observer::traffic);
  executor::reset_traffic();
  for (const DType dtype : {DType::f32, DType::bf16}) one_of_each(dtype);
  const auto pairs = reversal_pairs(16);
  ToyRun run(pairs, {.clip_norm = 1}, 0.1f, ParametersOptions{.mixed_precision = true, .device = Device::kCuda});
  run.loop.run();
  cuda::synchronize();
  std::printf("%s", executor::traffic_table().c_str());
  int64_t requested = 0, compulsory = 0;
  for (const executor::KernelTraffic& kernel : executor::traffic()) {
    const auto found = kLimits.find(kernel.name);
    const Limit limit = found == kLimits.end() ? kOnePass : found->second;
    requested += kernel.requested();
    compulsory += kernel.compulsory();
    INFO(kernel.name << ": " << kernel.requested() << " bytes requested, " << kernel.compulsory()
                     << " compulsory; limit " << limit.ratio << " (" << limit.reason << ")");
    CHECK(double(kernel.requested()) <= limit.ratio * double(kernel.compulsory()));
  }
  std::printf("all: %.3f requested per compulsory byte\n", double(requested) / double(compulsory));
  executor::set_observer(executor::Observer::race);
}

}  // namespace libtrain::testing
