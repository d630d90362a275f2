/// What the kernels ask of memory, against the fewest bytes that the launch could have moved: measured while they are executed on the CPU,
/// at shapes that divide into packs as those of real models do.
#include <cstdio>
#include <map>

#include "catch.h"
#include "hopper.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/traffic.h"
#include "train/toy.h"

namespace libtrain::testing {
namespace {

namespace executor = kernels::executor;

/// Most requested bytes per compulsory byte. A kernel that passes over its arguments once asks for what it must; a tenth more is left for
/// sectors at the borders. Others read something again, mostly from the cache: how often follows from what a row or tile reads.
struct Limit {
  double ratio;
  const char* derivation;
};
constexpr Limit kOnePass{1.1, "one pass"};
const std::map<std::string, Limit> kLimits{
    {"accumulate_loss", {2, "a few numbers, each in a sector of its own"}},
    {"add_row", {1.5, "the bias again for each row: (a + bias + y) / (a + y)"}},
    {"bias_activation_forward", {1.5, "the bias again for each row: (x + bias + y) / (x + y)"}},
    {"bias_activation_backward", {1.5, "the bias again for each row, column sums of each block of rows"}},
    {"layer_norm_forward", {1.1, "weight and bias for each block of rows, statistics"}},
    {"layer_norm_backward", {1.1, "the weight, and the sums of each block of rows"}},
    {"rms_norm_forward", {1.1, "the weight for each block of rows, statistics"}},
    {"rms_norm_backward", {1.1, "the weight, and the sums of each block of rows"}},
    {"add_dropout_layer_norm_forward", {1.1, "three vectors for each block of rows, places of dropout"}},
    {"add_dropout_layer_norm_backward", {1.12, "the weight, and the sums of each block of rows; places of dropout"}},
    {"embedding_forward",
     {1.5, "rows of common ids and positions again from the cache: tokens / distinct ones of this batch"}},
    {"broadcast", {1.5, "a row again for each row: (x + row + y) / (x + y)"}},
    {"select", {1.4, "in bf16, each sector of the mask for two packs: (2 * 4 + 3 * 2) / (4 + 3 * 2) bytes"}},
    {"dim_sum_backward",
     {3.05, "the f32 gradient again for each row, for bf16 by half sectors: (4 + 4 + 2 * 4 + 2) / (4 + 2) bytes"}},
    {"embedding_backward", {1.5, "ids once for each pass of the sort, dy once"}},
    {"attention_forward", {1.5, "keys and values again for each tile of queries of their sequence"}},
    {"attention_dkv", {2, "queries and their gradient again for each tile of keys of their sequence"}},
    {"attention_dq", {2.5, "all operands in two passes, one for D and one for dQ; and the keys again for dQ"}},
};

Tensor random(const Shape& shape, DType dtype, uint64_t seed) {
  std::vector<float> values(size_t(shape.numel()));
  std::mt19937_64 generator(seed);
  for (float& value : values) value = float(generator() % 2001) / 1000.0f - 1;
  const Tensor tensor = Tensor::from(std::span<const float>(values), shape).cast(dtype).to(Device::kCuda);
  tensor.set_requires_grad();
  return tensor;
}

/// 0, 1, … in a mixed order.
Tensor ids_below(int64_t count) {
  std::vector<int32_t> numbers(static_cast<size_t>(count));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = int32_t((i * 77) % numbers.size());
  return Tensor::from(std::span<const int32_t>(numbers), {count}, Device::kCuda);
}

/// Shared memory serves nearly every request in as few cycles as its banks allow: accesses in rows, padded or swizzled where they turn.
void check_banks() {
  for (const executor::KernelTraffic& kernel : executor::traffic()) {
    INFO(kernel.name << ": " << kernel.bank_cycles << " cycles of banks, " << kernel.least_bank_cycles
                     << " without conflicts");
    CHECK(double(kernel.bank_cycles) <= 1.05 * double(kernel.least_bank_cycles));
  }
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
  const Tensor positions = sinusoidal_positions(32, kWidth, dtype, Device::kCuda);
  Tensor x = embedding(ids, table, 16, positions, packing, -1, drop);
  x = dropout(x, packing, drop);
  x = layer_norm(x, w, b);
  x = rms_norm(x, w);
  x = add_dropout_layer_norm(x, scale(x, 0.5), b, w, b, packing, drop).y;
  x = dropout_add(x, self_attention(linear(x, qkv_weight), packing, {.heads = 4, .causal = true, .dropout = drop}),
                  packing, drop);
  x = add(gelu(x), b);
  x = relu(x);
  x = neg(silu(tanh(sqrt(exp(log(sigmoid(x)))))));
  x = permute(x, {1, 0});
  x = concat({narrow(x, 1, 0, 96), narrow(x, 1, 96, 96)}, 1);
  x = add(permute(x, {1, 0}), index_select(x.reshape({kTokens, kWidth}), ids_below(kTokens)));
  const Tensor mask = ids_below(kTokens * kWidth).reshape({kTokens, kWidth}), column = random({kTokens, 1}, dtype, 5);
  x = add(div(mul(x, w), column), 1);
  x = where(mask, x, masked_fill(softmax(x), mask, 0));
  x = add(sub(x, log_softmax(x)), max(x, 0).values);
  const TokenLoss loss = cross_entropy(linear(x, table), ids);
  tape.backward(add(loss.sum, add(sum(sum(x, 0)), sum(max(x, 1).values))));
}

/// Nothing is counted otherwise, and nothing checked.
void require_instrumented() {
  INFO("these kernels are not instrumented: run with LD_LIBRARY_PATH on the instrumented ones");
  REQUIRE(executor::instrumented());
}

}  // namespace

TEST_CASE("traffic: kernels ask for hardly more than they must", "[traffic]") {
  require_instrumented();
  executor::set_observer(executor::Observer::traffic);
  executor::reset_traffic();
  for (const DType dtype : {DType::f32, DType::bf16}) one_of_each(dtype);
  cuda::synchronize();
  std::printf("one of each operation, forward and backward, f32 and bf16:\n%s", executor::traffic_table().c_str());
  for (const executor::KernelTraffic& kernel : executor::traffic()) {
    const auto found = kLimits.find(kernel.name);
    const Limit limit = found == kLimits.end() ? kOnePass : found->second;
    INFO(kernel.name << ": " << kernel.requested() << " bytes requested, " << kernel.compulsory()
                     << " compulsory; limit " << limit.ratio << " (" << limit.derivation << ")");
    CHECK(double(kernel.requested()) <= limit.ratio * double(kernel.compulsory()));
  }
  check_banks();
  executor::set_observer(executor::Observer::race);
}

TEST_CASE("traffic: attention over long sequences", "[traffic]") {
  require_instrumented();
  constexpr int64_t kLength = 512, kHeads = 2, kHeadSize = 64, kWidth = kHeads * kHeadSize;
  constexpr double kBlocks = double(kLength) / 128, kMatrix = double(kLength * kWidth) * 2;
  const double sums = double(kLength * kHeads) * 4;  // lse or D
  const Packing packing = make_packing(std::vector<int64_t>{kLength}, Device::kCuda);
  for (const auto& [path, causal] :
       {std::pair{"long", false}, std::pair{"long", true}, std::pair{"hopper", false}, std::pair{"hopper", true}}) {
    const HopperSwitch hopper(path == std::string("hopper"));
    executor::set_observer(executor::Observer::traffic);
    executor::reset_traffic();
    {
      Tape tape;
      const Tensor qkv = random({kLength, 3 * kWidth}, DType::bf16, 1);
      const Tensor out = self_attention(qkv, packing, {.heads = kHeads, .causal = causal});
      tape.backward(out, random(out.shape(), DType::bf16, 2));
    }
    cuda::synchronize();
    std::printf("attention over %ld rows, %s%s:\n%s", long(kLength), path, causal ? ", causal" : "",
                executor::traffic_table().c_str());
    // A block owns 128 queries (keys, in dkv) and meets all rows of the other kind, with a causal mask those up to (from) its own: half
    // of them and half a block. dq meets the keys of the first block twice: its queries see few keys, so that D is summed from P and dP.
    const double visits = causal ? (kBlocks + 1) / 2 : kBlocks, first_again = causal ? 1 / kBlocks : 0;
    const struct {
      const char* kernel;
      double once, again, visits, sums;                     // matrices: moved once, moved at each visit
    } kernels[] = {{"_forward", 2, 2, visits, 1},           // q, out; k, v; lse
                   {"_dq", 4, 2, visits + first_again, 2},  // q, dout, out, dq; k, v; lse, D
                   {"_dkv", 4, 2, visits, 2}};              // k, v, dk, dv; q, dout; lse, D
    for (const auto& expected : kernels) {
      const executor::KernelTraffic found = executor::traffic_of(std::string("attention_") + path + expected.kernel);
      const double compulsory = (expected.once + expected.again) * kMatrix + expected.sums * sums;
      const double factor = (expected.once + expected.again * expected.visits) / (expected.once + expected.again);
      INFO(path << expected.kernel << (causal ? " causal: " : ": ") << found.requested()
                << " bytes requested, compulsory " << compulsory << ", read again " << factor);
      CHECK(found.launches == 1);
      CHECK(double(found.compulsory()) <= 1.01 * compulsory);
      CHECK(double(found.requested()) <= 1.03 * factor * compulsory);
    }
    check_banks();
  }
  executor::set_observer(executor::Observer::race);
}

TEST_CASE("traffic: a training step of a small transformer, in launches and bytes", "[traffic]") {
  require_instrumented();
  const Pair pair{std::vector<int32_t>(23, 5), std::vector<int32_t>(23, 6)};
  const std::vector<Pair> pairs(16, pair);
  Parameters parameters({.mixed_precision = true, .device = Device::kCuda});
  const Transformer model(parameters, {.source_vocab = 96,
                                       .target_vocab = 96,
                                       .encoder_layers = 1,
                                       .decoder_layers = 1,
                                       .layer = {.size = 128, .heads = 4, .feed_forward_size = 256, .dropout = 0.1f}});
  BucketedBatches batches(pairs, {.pairs = 16, .batch = {.device = Device::kCuda}});
  TrainLoop loop(parameters, batches, [&](const Batch& batch) { return model.loss(batch); },
                 {.epochs = 3, .clip_norm = 1});
  loop.step();
  executor::set_observer(executor::Observer::traffic);
  executor::reset_traffic();
  loop.step();
  cuda::synchronize();
  int64_t launches = 0, requested = 0, compulsory = 0;
  for (const executor::KernelTraffic& kernel : executor::traffic()) {
    launches += kernel.launches;
    requested += kernel.requested();
    compulsory += kernel.compulsory();
  }
  std::printf("a training step, 1+1 layers:\n%s%ld launches, %.3f requested per compulsory byte\n",
              executor::traffic_table().c_str(), long(launches), double(requested) / double(compulsory));
  CHECK(launches <= 72);  // 21 + 51 for each pair of layers: more is to be on purpose
  CHECK(double(requested) <= 1.15 * double(compulsory));
  check_banks();
  executor::set_observer(executor::Observer::race);
}

}  // namespace libtrain::testing
