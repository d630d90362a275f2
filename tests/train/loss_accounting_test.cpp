/// The gradient of a step must not depend on how its targets were grouped, ordered or padded.
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "libtrain/ops/unpack_rows.h"
#include "toy.h"

namespace libtrain::testing {
namespace {

struct Gradient {
  double loss;  // mean per target
  std::vector<double> mean;
};

/// Mean gradient in f64 over `groups`, each a mini-batch of its own.
Gradient accumulate(const std::vector<std::vector<Pair>>& groups,
                    const std::function<TokenLoss(const Transformer&, const Batch&)>& loss_of,
                    const BatchOptions& batching = {}) {
  Parameters parameters({.dtype = DType::f64, .seed = 5});
  const Transformer model(parameters, toy_options());
  double sum = 0, count = 0;
  for (const auto& group : groups) {
    Tape tape;
    const TokenLoss loss = loss_of(model, make_batch(std::span<const Pair>(group), batching));
    tape.backward(loss.sum);
    sum += loss.sum.item();
    count += loss.count.item();
  }
  parameters.zero_unwritten_gradients();
  Gradient result{sum / count, parameters.gradients().to_vector<double>()};
  for (double& value : result.mean) value /= count;
  return result;
}

TokenLoss packed_loss(const Transformer& model, const Batch& batch) { return model.loss(batch); }

/// The textbook path: padded ids in, [B, T, V] logits out, padding ignored; `extra` columns of padding on both sides.
TokenLoss padded_loss(const Transformer& model, const Batch& batch, int64_t extra) {
  const auto widen = [extra](const Tensor& ids) {
    const Tensor wide = Tensor::full({ids.dim(0), ids.dim(1) + extra}, kPad, DType::i32);
    const auto from = ids.view<const int32_t>(), to = View<const int32_t>(wide.view<int32_t>());
    for (int64_t r = 0; r < ids.dim(0); ++r)
      std::copy_n(from.data + r * ids.dim(1), ids.dim(1), const_cast<int32_t*>(to.data) + r * wide.dim(1));
    return wide;
  };
  const Tensor targets = widen(batch.target_ids());
  const Tensor logits = model(widen(batch.input_ids()), targets);
  CHECK(logits.shape() == Shape{targets.dim(0), targets.dim(1), kToyVocab});
  return cross_entropy(logits, targets, kPad);
}

void check_equal(const Gradient& a, const Gradient& b) {
  CHECK(std::abs(a.loss - b.loss) <= 1e-12);
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.mean.size(); ++i) {
    worst = std::max(worst, std::abs(a.mean[i] - b.mean[i]));
    largest = std::max(largest, std::abs(a.mean[i]));
  }
  CHECK(largest > 1e-3);  // there is something to compare
  CHECK(worst <= 1e-12);
}

std::vector<std::vector<Pair>> split(const std::vector<Pair>& pairs, size_t parts) {
  std::vector<std::vector<Pair>> groups(parts);
  for (size_t i = 0; i < pairs.size(); ++i) groups[i * parts / pairs.size()].push_back(pairs[i]);
  return groups;
}

}  // namespace

TEST_CASE("loss accounting: 1, 2, 4 and 8 micro-batches give the same gradient", "[accounting]") {
  const auto pairs = reversal_pairs(16);
  const Gradient whole = accumulate({pairs}, packed_loss);
  for (const size_t parts : {2, 4, 8}) check_equal(accumulate(split(pairs, parts), packed_loss), whole);
  const std::vector<std::vector<Pair>> uneven{{pairs.begin(), pairs.begin() + 1}, {pairs.begin() + 1, pairs.end()}};
  check_equal(accumulate(uneven, packed_loss), whole);
}

TEST_CASE("loss accounting: padded and packed, any extra padding, any order, any bucket capacity", "[accounting]") {
  auto pairs = reversal_pairs(12);
  pairs[3].target.clear();  // nothing but kEos
  pairs[7].source.clear();
  const Gradient packed = accumulate({pairs}, packed_loss);
  for (const int64_t extra : {0, 1, 7})
    check_equal(
        accumulate({pairs}, [extra](const auto& model, const auto& batch) { return padded_loss(model, batch, extra); }),
        packed);
  check_equal(accumulate({pairs}, packed_loss, {.capacity_multiple = 32}), packed);
  std::reverse(pairs.begin(), pairs.end());
  check_equal(accumulate({pairs}, packed_loss), packed);
}

TEST_CASE("loss accounting: the two model calls that give logits agree with the one that does not", "[accounting]") {
  const auto pairs = reversal_pairs(9);
  const Gradient direct = accumulate({pairs}, packed_loss);
  check_equal(
      accumulate({pairs}, [](const auto& model,
                             const auto& batch) { return cross_entropy(model(batch), batch.target_out, kPad); }),
      direct);
}

TEST_CASE("loss accounting: rows without a source, without a target, or without either never make NaN",
          "[accounting]") {
  Parameters parameters;
  const Transformer model(parameters, toy_options());
  // Padded rows that are padding throughout: a sequence of length 0 on one side or on both.
  const Tensor input = Tensor::from<int32_t>({5, 6, kEos, kPad, kPad, kPad, 7, kEos, kPad, kPad, kPad, kPad}, {4, 3});
  const Tensor target = Tensor::from<int32_t>({8, kEos, 9, kEos, kPad, kPad, kPad, kPad}, {4, 2});
  Tape tape;
  const TokenLoss loss = cross_entropy(model(input, target), target, kPad);
  CHECK(loss.count.item() == 4);
  CHECK(std::isfinite(loss.sum.item()));
  tape.backward(loss.sum);
  parameters.zero_unwritten_gradients();
  for (const float value : parameters.gradients().to_vector<float>()) REQUIRE(std::isfinite(value));
}

TEST_CASE("loss accounting: all targets ignored is loss 0 and gradient 0", "[accounting]") {
  Parameters parameters({.dtype = DType::f64});
  const Transformer model(parameters, toy_options());
  Batch batch = make_batch(std::span<const Pair>(reversal_pairs(3)));
  batch.target_out.fill(kPad);
  Tape tape;
  const TokenLoss loss = model.loss(batch);
  const Tensor mean = loss.mean();
  CHECK(mean.item() == 0);
  CHECK(loss.count.item() == 0);
  tape.backward(mean);
  parameters.zero_unwritten_gradients();
  for (const double value : parameters.gradients().to_vector<double>()) REQUIRE(value == 0);
}

TEST_CASE("loss accounting: dropout draws the same for packed and padded batches", "[accounting]") {
  const auto pairs = reversal_pairs(10);
  const auto loss_with_dropout = [&](bool padded) {
    Parameters parameters({.dtype = DType::f64, .seed = 5});
    const Transformer model(parameters, toy_options(0.4f));
    const Batch batch = make_batch(std::span<const Pair>(pairs), {.capacity_multiple = padded ? 1 : 64});
    Tape tape;
    return padded ? padded_loss(model, batch, 3).sum.item() : model.loss(batch).sum.item();
  };
  CHECK(std::abs(loss_with_dropout(true) - loss_with_dropout(false)) < 1e-9);
  const NoTape no_tape;
  Parameters parameters({.dtype = DType::f64, .seed = 5});
  const Transformer model(parameters, toy_options(0.4f));
  CHECK(std::abs(model.loss(make_batch(std::span<const Pair>(pairs))).sum.item() - loss_with_dropout(false)) > 1e-3);
}

TEST_CASE("loss accounting: a program's own loop with mean() takes the same steps as TrainLoop", "[accounting]") {
  const auto pairs = reversal_pairs(24);
  const TrainOptions options{.epochs = 2, .clip_norm = 0.7};
  ToyRun run(pairs, options, 0, DType::f64);
  run.loop.run();

  Parameters parameters({.dtype = DType::f64, .seed = 5});
  const Transformer model(parameters, toy_options());
  BucketedBatches batches(pairs, {.pairs = 8, .batches_per_bucket = 2});
  for (int64_t epoch = 0; epoch < 2; ++epoch)
    for (int64_t i = 0, count = batches.begin_epoch(epoch); i < count; ++i) {
      Tape tape;
      tape.backward(model.loss(batches.get(i)).mean());
      StepState state = parameters.step();
      state.loss_count = 1;
      state.learning_rate = options.adam.learning_rate;
      parameters.set_step(state);
      clip_by_norm(parameters, options.clip_norm);
      adam_update(parameters, options.adam);
      parameters.clear_gradients();
    }
  const auto own = parameters.values().to_vector<double>(), loop = run.weights();
  for (size_t i = 0; i < own.size(); ++i) REQUIRE(std::abs(own[i] - loop[i]) < 1e-9);
}

}  // namespace libtrain::testing
