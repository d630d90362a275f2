/// What a training step costs a device in launches and in bytes, against what the goals say: measured where kernels are executed on the CPU, at
/// the row width of the model base (512, 8 heads, inner size 2,048) with few rows, and worked out for base itself.
#include <algorithm>
#include <cstdio>
#include <random>
#include <set>

#include "catch.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/traffic.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {
namespace {

namespace executor = kernels::executor;

/// Sizes that bytes and launches depend on. As many layers on either side, and as many tokens.
struct StepShape {
  int64_t layers, size, heads, inner, vocab, pairs, length;

  int64_t tokens() const { return pairs * length; }
};

/// A loop over one batch of random words, again and again.
struct StepRun {
  std::vector<Pair> pairs;
  Parameters parameters;
  Transformer model;
  BucketedBatches batches;
  TrainLoop loop;

  explicit StepRun(const StepShape& s)
      : pairs(random_pairs(s)),
        parameters({.mixed_precision = true, .device = Device::kCuda}),
        model(parameters, {.source_vocab = s.vocab,
                           .target_vocab = s.vocab,
                           .encoder_layers = s.layers,
                           .decoder_layers = s.layers,
                           .layer = {.size = s.size, .heads = s.heads, .feed_forward_size = s.inner, .dropout = 0.1f},
                           .max_positions = s.length}),
        batches(pairs, {.pairs = s.pairs, .shuffle = false, .prefetch = 0, .batch = {.device = Device::kCuda}}),
        loop(parameters, batches, [this](const Batch& batch) { return model.loss(batch); },
             {.epochs = 1000, .clip_norm = 1}) {
    loop.step();
    loop.step();  // what is made on first use is there
  }

  static std::vector<Pair> random_pairs(const StepShape& s) {
    std::mt19937 random(1);
    const auto words = [&] {
      std::vector<int32_t> ids(static_cast<size_t>(s.length - 1));
      for (int32_t& id : ids) id = int32_t(kSpecialTokens + random() % uint32_t(s.vocab - kSpecialTokens));
      return ids;
    };
    std::vector<Pair> pairs(static_cast<size_t>(s.pairs));
    for (Pair& pair : pairs) pair = {words(), words()};
    return pairs;
  }
};

/// Kernels of a step, library products included.
int64_t launches_of(int64_t layers) {
  StepRun run({layers, 32, 1, 64, 32000, 4, 8});
  const int64_t before = cuda::thread_launches();
  run.loop.step();
  return cuda::thread_launches() - before;
}

// ---- Bytes --------------------------------------------------------------------------------------------------------------

/// Fewest bytes that kernels of a family move in a step: e bytes an element of activations, 4 a gradient of a parameter. Biases and weights of
/// norms, and what there is one of per row, are left out, but for the ids that make up a row.
struct Family {
  const char* name;
  std::vector<const char*> kernels;
  double (*compulsory)(const StepShape&, double parameters);
};

constexpr double e = 2;
double rows(const StepShape& s) { return double(s.tokens()); }
double matrix(const StepShape& s) { return rows(s) * double(s.size) * e; }
/// Different words of one side, on average over random ones.
double words(const StepShape& s) {
  const double vocab = double(s.vocab);
  return vocab * (1 - std::pow(1 - 1 / vocab, rows(s)));
}

// Forward reads each picked row and position once and writes y; backward reads dy and writes the source's table, or adds to rows of the target's.
double embedding_bytes(const StepShape& s, double) {
  const double row = double(s.size), table = double(s.vocab) * row * 4, picked = words(s) * row;
  const double forward = 2 * (picked * e + double(s.length) * row * e + matrix(s) + 8 * rows(s));
  return forward + 2 * (matrix(s) + 8 * rows(s)) + table + 2 * 4 * picked;
}
// x = residual + branch, y: 4 matrices; backward dy, x, dx in, dresidual, dbranch out: 5, without dx 4. Those before all layers: 2, and 3 with
// one that is added to. Statistics in f32.
double norm_bytes(const StepShape& s, double) {
  const double layers = double(s.layers), statistics = 2 * 8 * rows(s);
  return (5 * layers * (4 + 5) - 2) * matrix(s) + 2 * (2 + 4) * matrix(s) + (5 * layers + 2) * statistics;
}
// q, k, v, out; backward q, k, v, dout in, dq, dk, dv out: where a block holds a sequence it needs no out. The log-sum of each row and head in f32.
double attention_bytes(const StepShape& s, double) {
  return 3 * double(s.layers) * (11 * matrix(s) + 2 * 4 * rows(s) * double(s.heads));
}
double activation_bytes(const StepShape& s, double) { return 2 * double(s.layers) * 5 * rows(s) * double(s.inner) * e; }
// One pass over the logits: read, and written over with their gradient. That gradients are multiplied by the 1 that arrives moves nothing more.
double cross_entropy_bytes(const StepShape& s, double) { return 2 * rows(s) * double(s.vocab) * e; }
double clip_bytes(const StepShape&, double parameters) { return 4 * parameters; }
double adam_bytes(const StepShape&, double parameters) { return 30 * parameters; }
double loss_bytes(const StepShape& s, double) { return 8 * rows(s); }

const std::vector<Family> kFamilies{
    {"embedding", {"embedding_forward", "embedding_backward"}, embedding_bytes},
    {"norms, residual sums, dropout",
     {"layer_norm_forward", "layer_norm_backward", "add_dropout_layer_norm_forward", "add_dropout_layer_norm_backward"},
     norm_bytes},
    {"attention", {"attention_short_forward", "attention_short_backward"}, attention_bytes},
    {"bias, activation, dropout", {"bias_activation_forward", "bias_activation_backward"}, activation_bytes},
    {"cross-entropy", {"cross_entropy_forward", "scale"}, cross_entropy_bytes},
    {"sums of losses", {"sum_losses", "accumulate_loss"}, loss_bytes},
    {"clip", {"clip_by_norm"}, clip_bytes},
    {"Adam", {"adam_update"}, adam_bytes}};

/// Parameters of the model, biases and norms included, without the gaps between them.
double parameters_of(const StepShape& s) {
  const double d = double(s.size), f = double(s.inner), layers = double(s.layers);
  return 2 * double(s.vocab) * d + layers * (12 * d * d + 4 * d * f + 24 * d + 2 * f) + 4 * d;
}

struct Measured {
  int64_t launches = 0;
  double requested = 0;
};
Measured measured(const Family& family) {
  Measured sum;
  for (const char* name : family.kernels) {
    const executor::KernelTraffic kernel = executor::traffic_of(name);
    sum.launches += kernel.launches;
    sum.requested += double(kernel.requested());
  }
  return sum;
}

}  // namespace

TEST_CASE("step budget: launches are a + b times the layers, 330 at most for six on either side", "[device]") {
  const int64_t one = launches_of(1), two = launches_of(2), three = launches_of(3);
  const int64_t each = two - one, first = one - each;
  std::printf("launches of a training step: %ld + %ld for each pair of layers, %ld for six\n", long(first), long(each),
              long(first + 6 * each));
  CHECK(three == first + 3 * each);
  CHECK(first + 6 * each <= 330);
}

TEST_CASE("step budget: bytes that kernels ask for, by family, against the fewest", "[traffic]") {
  INFO("these kernels are not instrumented: run with LD_LIBRARY_PATH on the instrumented ones");
  REQUIRE(executor::instrumented());
  const StepShape small{1, 512, 8, 2048, 1024, 12, 32}, base{6, 512, 8, 2048, 32000, 606, 27};
  StepRun run(small);
  executor::set_observer(executor::Observer::traffic);
  executor::reset_traffic();
  run.loop.step();
  cuda::synchronize();
  std::set<std::string> known{"gemm"};
  double requested = 0, compulsory = 0, base_requested = 0, base_compulsory = 0;
  std::printf("%-32s %8s %12s %12s %6s %14s\n", "a training step, 1+1 layers", "launches", "requested", "fewest",
              "ratio", "base, fewest MB");
  for (const Family& family : kFamilies) {
    known.insert(family.kernels.begin(), family.kernels.end());
    const Measured found = measured(family);
    const double fewest = family.compulsory(small, double(run.parameters.count()));
    const double at_base = family.compulsory(base, parameters_of(base));
    std::printf("%-32s %8ld %12.0f %12.0f %6.3f %14.0f\n", family.name, long(found.launches), found.requested, fewest,
                found.requested / fewest, at_base / 1e6);
    requested += found.requested;
    compulsory += fewest;
    base_requested += at_base * found.requested / fewest;
    base_compulsory += at_base;
  }
  const executor::KernelTraffic products = executor::traffic_of("gemm");
  std::printf(
      "%-32s %8ld %12.0f\n%-32s %8s %12.0f %12.0f %6.3f\nbase, by these ratios: %.0f MB of at least %.0f: %.3f\n",
      "products, each operand once", long(products.launches), double(products.requested()), "all but products", "",
      requested, compulsory, requested / compulsory, base_requested / 1e6, base_compulsory / 1e6,
      base_requested / base_compulsory);
  for (const executor::KernelTraffic& kernel : executor::traffic()) {
    INFO(kernel.name << " belongs to no family");
    CHECK(known.contains(kernel.name));
  }
  CHECK(parameters_of(small) == double(run.parameters.count()));
  CHECK(requested <= 1.15 * compulsory);
  CHECK(base_requested <= 1.15 * base_compulsory);
  executor::set_observer(executor::Observer::race);
}

}  // namespace libtrain::testing
