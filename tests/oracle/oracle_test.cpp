/// libtrain against PyTorch: the same transformer, weights and batches (see README.md beside this file).
#include "oracle_file.h"

namespace libtrain::testing {
namespace {

class Oracle : public OracleFile {
 public:
  using OracleFile::OracleFile;
  Batch batch(int i) const {
    const std::string name = "batch" + std::to_string(i);
    return pack_padded(tensor(name + "/source_ids"), tensor(name + "/target_ids"));
  }
};

struct Setting {
  const char* file;
  bool pre_norm;
  DType dtype;
  double stored_f64, stored_f32, final_weights;  // tolerances
};

struct Model {
  Parameters parameters;
  Transformer transformer;

  Model(const Oracle& oracle, const Setting& setting, double label_smoothing = 0)
      : parameters({.dtype = setting.dtype}),
        transformer(
            parameters,
            {.source_vocab = 23,
             .target_vocab = 19,
             .encoder_layers = 2,
             .decoder_layers = 2,
             .layer = {.size = 16, .heads = 4, .feed_forward_size = 32, .dropout = 0, .pre_norm = setting.pre_norm},
             .label_smoothing = label_smoothing}) {
    const auto names = oracle.names_below("weights/");
    REQUIRE(names.size() == parameters.slots().size());
    for (const std::string& name : names) {
      INFO(name);
      const Tensor weight = oracle.tensor("weights/" + name);
      REQUIRE(parameters.get(name).shape() == weight.shape());
      parameters.get(name).copy_from(weight.cast(setting.dtype));
    }
  }
};

/// Rows of padded logits whose label is not padding: those that the oracle's padding does not make arbitrary.
Values rows_with_labels(const Values& logits, const Values& labels) {
  const size_t vocab = logits.size() / labels.size();
  Values kept;
  for (size_t row = 0; row < labels.size(); ++row)
    if (labels[row] != kPad)
      kept.insert(kept.end(), logits.begin() + int64_t(row * vocab), logits.begin() + int64_t((row + 1) * vocab));
  return kept;
}

class AlternatingBatches : public BatchSource<Batch> {
 public:
  explicit AlternatingBatches(const Oracle& oracle) : batches_{oracle.batch(0), oracle.batch(1)} {}
  int64_t begin_epoch(int64_t) override { return 20; }
  Batch get(int64_t index) override { return batches_[index % 2]; }

 private:
  Batch batches_[2];
};

void check_forward(const Oracle& oracle, const Setting& setting) {
  const Model model(oracle, setting);
  const Tensor labels = oracle.tensor("batch0/target_ids");
  const Values padded = values_of(model.transformer(oracle.tensor("batch0/source_ids"), labels));
  const Values theirs = rows_with_labels(oracle.values("logits"), values_of(labels));
  CHECK(relative_difference(rows_with_labels(padded, values_of(labels)), theirs) <= setting.stored_f64);
  CHECK(relative_difference(values_of(model.transformer(oracle.batch(0))), theirs) <= setting.stored_f64);
  CHECK(relative_difference({model.transformer.loss(oracle.batch(0)).mean().item()}, oracle.values("loss")) <=
        setting.stored_f64);
  const Model smoothed(oracle, setting, 0.1);
  CHECK(relative_difference({smoothed.transformer.loss(oracle.batch(0)).mean().item()},
                            oracle.values("loss_smoothed")) <= setting.stored_f64);
}

void check_gradients(const Oracle& oracle, const Setting& setting) {
  const Model model(oracle, setting);
  Tape tape;
  tape.backward(model.transformer.loss(oracle.batch(0)).mean());
  for (const auto& slot : model.parameters.slots()) {
    INFO(slot.name);
    CHECK(relative_difference(values_of(slot.value.grad()), oracle.values("grads/" + slot.name)) <= setting.stored_f32);
  }
}

/// Without the keys' third of an attention's input bias: softmax ignores a shift of all scores, so its gradient is zero but for rounding,
/// which Adam blows up to full steps.
Values determined(const std::string& name, Values values) {
  if (name.ends_with("in_proj_bias"))
    values.erase(values.begin() + int64_t(values.size() / 3), values.begin() + int64_t(values.size() / 3 * 2));
  return values;
}

void check_training(const Oracle& oracle, const Setting& setting) {
  Model model(oracle, setting);
  AlternatingBatches batches(oracle);
  Values losses, norms, rates;
  const TrainOptions options{.clip_norm = 1,
                             .adam = {.learning_rate = 3e-3, .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-9},
                             .schedule = inverse_sqrt_schedule(5)};
  TrainLoop loop(
      model.parameters, batches, [&](const Batch& batch) { return model.transformer.loss(batch); }, options);
  loop.on_step([&](const StepReport& report) {
    losses.push_back(report.loss);
    norms.push_back(report.gradient_norm);
    rates.push_back(report.learning_rate);
  });
  loop.run();
  CHECK(relative_difference(losses, oracle.values("losses")) <= setting.stored_f64);
  CHECK(relative_difference(norms, oracle.values("norms")) <= std::max(setting.stored_f64, 1e-9));
  CHECK(relative_difference(rates, oracle.values("rates")) <= 1e-14);
  for (const auto& slot : model.parameters.slots()) {
    INFO(slot.name);
    const Values ours = determined(slot.name, values_of(slot.value)),
                 theirs = determined(slot.name, oracle.values("final/" + slot.name));
    CHECK(relative_difference(ours, theirs) <= setting.final_weights);
  }
}

}  // namespace

TEST_CASE("oracle: logits, losses, gradients and 20 steps equal PyTorch's", "[oracle]") {
  for (const Setting& setting : {Setting{"seq2seq_pre_norm.safetensors", true, DType::f32, 1e-4, 1e-4, 1e-4},
                                 Setting{"seq2seq_post_norm.safetensors", false, DType::f32, 1e-4, 1e-4, 1e-4},
                                 Setting{"seq2seq_pre_norm.safetensors", true, DType::f64, 1e-10, 1e-6, 1e-6},
                                 Setting{"seq2seq_post_norm.safetensors", false, DType::f64, 1e-10, 1e-6, 1e-6}})
    DYNAMIC_SECTION(setting.file << " in " << name(setting.dtype)) {
      const Oracle oracle(setting.file);
      check_forward(oracle, setting);
      check_gradients(oracle, setting);
      check_training(oracle, setting);
    }
}

}  // namespace libtrain::testing
