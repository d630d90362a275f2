/// Mistakes with models, optimizers, schedules and the train loop.
#include "mistakes/mistakes.h"

namespace libtrain::testing {
namespace {

constexpr Kind kArgument = Kind::kInvalidArgument;

/// A transformer with one option changed.
std::function<void()> model_with(const std::function<void(TransformerOptions&)>& change) {
  return [change] {
    TransformerOptions options{.source_vocab = 9, .target_vocab = 9, .layer = {.size = 8, .heads = 2}};
    change(options);
    Parameters parameters;
    Transformer(parameters, options);
  };
}

/// Epochs of so many batches, each of which is its number.
struct Numbers : BatchSource<int64_t> {
  explicit Numbers(int64_t count) : batches(count) {}
  int64_t begin_epoch(int64_t) override { return batches; }
  int64_t get(int64_t index) override { return index; }
  int64_t batches;
};

/// A loop over nothing in particular, made and then used.
void with_loop(const TrainOptions& options, const std::function<void(TrainLoop&)>& use = {}, int64_t batches = 2) {
  Parameters parameters;
  const Tensor w = parameters.add("w", {1}, init::constant(1));
  Numbers source(batches);
  TrainLoop loop(
      parameters, source, [=](int64_t) { return sum(w); }, options);
  if (use) use(loop);
}

std::function<void()> loop_with(const TrainOptions& options) {
  return [options] { with_loop(options); };
}

std::function<void()> adam_with(const AdamOptions& options) {
  return [options] { adam(options); };
}

std::vector<Mistake> model_mistakes() {
  return {
      {"a model without vocabularies", kArgument, "got source_vocab 0 and target_vocab 0", "[transformer]",
       "Vocabulary::size() counts them", model_with([](auto& o) { o.source_vocab = o.target_vocab = 0; })},
      {"a model without an encoder", kArgument, "got encoder_layers 0", "[transformer]", "3 is the default",
       model_with([](auto& o) { o.encoder_layers = 0; })},
      {"a model whose heads do not divide its width", kArgument, "size 8 does not divide into 3 heads", "[transformer]",
       "choose heads that divide it", model_with([](auto& o) { o.layer.heads = 3; })},
      {"a model without feed-forward layers", kArgument, "got 0", "[transformer] feed_forward_size",
       "two to four times the size", model_with([](auto& o) { o.layer.feed_forward_size = 0; })},
      {"a model that drops everything", kArgument, "got 1", "[transformer] dropout", "0 turns it off",
       model_with([](auto& o) { o.layer.dropout = 1; })},
      {"a model that smooths less than nothing", kArgument, "got -0.1", "[transformer] label_smoothing", "0.1 is usual",
       model_with([](auto& o) { o.label_smoothing = -0.1; })},
      {"a model for sequences of no length", kArgument, "got 0", "[transformer] max_positions",
       "it bounds the tokens of a sequence", model_with([](auto& o) { o.max_positions = 0; })},
      {"one table for two vocabularies", kArgument, "got 9 source and 12 target ids", "[transformer]",
       "choose another tying", model_with([](auto& o) { o.target_vocab = 12, o.tying = Tying::kAll; })},
      {"an embedding of no ids", kArgument, "got 0 and 4", "[embedding] expected vocab > 0",
       "Vocabulary::size() counts",
       [] {
         Parameters parameters;
         Embedding(parameters, "e", 0, 4, 8);
       }},
      {"an embedding in no columns", kArgument, "got 9 and 0", "[embedding] expected vocab > 0",
       "Vocabulary::size() counts",
       [] {
         Parameters parameters;
         Embedding(parameters, "e", 9, 0, 8);
       }},
      {"attention of no heads", kArgument, "size 8 does not divide into 0 heads", "[attention]", "choose heads",
       [] {
         Parameters parameters;
         MultiHeadAttention(parameters, "a", 8, 0, 0);
       }},
      {"a recurrent layer without inputs", kArgument, "got 0 and 4", "[recurrent] expected inputs > 0",
       "both count features",
       [] {
         Parameters parameters;
         GRU(parameters, "gru", 0, 4);
       }},
      {"a recurrent network without layers", kArgument, "got 0", "[recurrent] expected at least one layer",
       "1 is the default",
       [] {
         Parameters parameters;
         LSTM(parameters, "lstm", 3, 4, 0);
       }},
      {"a recurrent network without time", kArgument, "got f32[2, 3]", "[gru] x", "brings time to the front",
       [] {
         Parameters parameters;
         GRU(parameters, "gru", 3, 4)(Tensor::zeros({2, 3}));
       }},
      {"states for other layers", kArgument, "expected 1 states, one for each layer, got 2", "[gru]",
       "pass none to begin with zeros",
       [] {
         Parameters parameters;
         std::vector<Tensor> states{Tensor::zeros({2, 4}), Tensor::zeros({2, 4})};
         GRU(parameters, "gru", 3, 4)(Tensor::zeros({5, 2, 3}), states);
       }},
      {"a sequence with a function that is none", kArgument, "empty function for place 1", "[sequential] add()",
       "leave the call out",
       [] {
         Parameters parameters;
         Sequential(parameters, "net").add(relu).add(std::function<Tensor(const Tensor&)>());
       }},
      {"a state of another batch", kArgument, "h must be f32[1, 4], got f32[2, 4]", "[gru_cell]", "sizes must agree",
       [] {
         Parameters parameters;
         GRUCell(parameters, "gru", 3, 4)(Tensor::zeros({1, 3}), Tensor::zeros({2, 4}));
       }},
      {"a memory of another size", kArgument, "c must be f32[2, 4], got f32[2, 3]", "[lstm_cell]", "sizes must agree",
       [] {
         Parameters parameters;
         LSTMCell(parameters, "lstm", 3, 4)(Tensor::zeros({2, 3}), {Tensor::zeros({2, 4}), Tensor::zeros({2, 3})});
       }},
  };
}

std::vector<Mistake> optimizer_mistakes() {
  return {
      {"adam that stands still", kArgument, "got 0", "[adam] learning_rate", "1e-3 is a usual peak",
       adam_with({.learning_rate = 0})},
      {"adam that never forgets", kArgument, "got 1", "[adam] beta1", "0.9 is usual", adam_with({.beta1 = 1})},
      {"adam with a mean square of no number", kArgument, "got nan", "[adam] beta2", "0.98 and 0.999 are usual",
       adam_with({.beta2 = std::nan("")})},
      {"adam that may divide by zero", kArgument, "got 0", "[adam] epsilon", "1e-8 is usual",
       adam_with({.epsilon = 0})},
      {"adam that divides by what f32 takes for zero", kArgument, "got 1e-46", "[adam] epsilon", "1e-8 is usual",
       adam_with({.epsilon = 1e-46})},
      {"adam that divides by infinity", kArgument, "got inf", "[adam] epsilon", "1e-8 is usual",
       adam_with({.epsilon = INFINITY})},
      {"adam that never forgets in f32", kArgument, "got 0.99999999", "[adam] beta1", "0.9 is usual",
       adam_with({.beta1 = 0.99999999})},
      {"adam whose mean square stays 0 in f32", kArgument, "got 0.99999999", "[adam] beta2", "0.98 and 0.999 are usual",
       adam_with({.beta2 = 0.99999999})},
      {"adam that decays at once", kArgument, "got inf", "[adam] weight_decay", "0 turns it off",
       adam_with({.weight_decay = INFINITY})},
      {"adam that grows its weights", kArgument, "got -0.1", "[adam] weight_decay", "0 turns it off",
       adam_with({.weight_decay = -0.1})},
      {"sgd of infinite steps", kArgument, "got inf", "[sgd] learning_rate", "1e-2 is a usual start",
       [] { sgd({.learning_rate = INFINITY}); }},
      {"sgd that never slows down", kArgument, "got 1", "[sgd] momentum", "0 turns it off, 0.9 is usual",
       [] { sgd({.learning_rate = 1, .momentum = 1}); }},
      {"sgd that looks ahead without momentum", kArgument, "got 0", "[sgd] nesterov needs momentum", "0.9 is usual",
       [] { sgd({.learning_rate = 1, .nesterov = true}); }},
      {"sgd that grows its weights", kArgument, "got -1", "[sgd] weight_decay", "0 turns it off",
       [] { sgd({.learning_rate = 1, .weight_decay = -1}); }},
      {"sgd that decays at once", kArgument, "got inf", "[sgd] weight_decay", "0 turns it off",
       [] { sgd({.learning_rate = 1, .weight_decay = INFINITY}); }},
      {"an update clipped to any length", kArgument, "got inf", "[apply_update] clip_norm", "0 never clips",
       [] { apply_update(Parameters(), sgd({}), INFINITY); }},
      {"clipping to less than nothing", kArgument, "got -1", "[clip_by_norm] max_norm", "0: no clipping",
       [] { clip_by_norm(Parameters(), -1); }},
      {"clipping everything away", kArgument, "got 0", "[clip_by_value] max_value", "leave the call out",
       [] { clip_by_value(Parameters(), 0); }},
      {"an average of the last alone", kArgument, "got 1", "[moving_average] decay", "0.999 is usual",
       [] { update_average(Parameters({.average = true}), 1); }},
      {"an average that the store does not keep", kArgument, "the store keeps no average", "[moving_average]",
       ".average = true", [] { update_average(Parameters(), 0.9); }},

      {"a warm-up longer than the run", kArgument, "got warmup 10 and total 10", "[linear_schedule]",
       "shorten the warm-up", [] { linear_schedule(10, 10); }},
      {"a cosine of negative warm-up", kArgument, "got warmup -1 and total 10", "[cosine_schedule]", "lengthen the run",
       [] { cosine_schedule(-1, 10); }},
      {"a step of no updates", kArgument, "got 0", "every must be >= 1", "a number of updates",
       [] { schedule::step(0, 0.5); }},
      {"a root of no updates", kArgument, "got 0", "warmup must be >= 1", "a number of updates",
       [] { inverse_sqrt_schedule(0); }},
      {"a schedule that goes on with nothing", kArgument, "got an empty one", "[schedule::then]",
       "constant_schedule() is the plainest", [] { schedule::then(schedule::constant(), 3, {}); }},
      {"a schedule times nothing", kArgument, "got an empty one", "[schedule::times]", "is the plainest",
       [] { schedule::times({}, schedule::constant()); }},
  };
}

std::vector<Mistake> loop_mistakes() {
  return {
      {"less than no epochs", kArgument, "got -1", "[train_loop] epochs", "max_updates can end",
       loop_with({.epochs = -1})},
      {"less than no updates", kArgument, "got -1", "[train_loop] max_updates", "0: no limit",
       loop_with({.max_updates = -1})},
      {"updates of no mini-batches", kArgument, "got 0", "[train_loop] accumulate", "1 updates after every mini-batch",
       loop_with({.accumulate = 0})},
      {"a loop that clips to less than nothing", kArgument, "got -2", "[train_loop] clip_norm", "0: no clipping",
       loop_with({.clip_norm = -2})},
      {"a loop that clips values to less than nothing", kArgument, "got -3", "[train_loop] clip_value",
       "0: no clipping", loop_with({.clip_value = -3})},
      {"a loop that averages nothing", kArgument, "got 1", "[train_loop] average_decay", "0 leaves the average alone",
       loop_with({.average_decay = 1})},
      {"a loop whose store keeps no average", kArgument, "average_decay is 0.9", "[train_loop]", ".average = true",
       loop_with({.average_decay = 0.9})},
      {"checkpoints before they are due", kArgument, "got -5", "[train_loop] checkpoint_every", "0: only at the end",
       loop_with({.checkpoint_every = -5})},
      {"a loop without a schedule", kArgument, "schedule is empty", "[train_loop]",
       "constant_schedule() is the default", loop_with({.schedule = nullptr})},
      {"an optimizer that does nothing", kArgument, "has no update function", "[train_loop] the optimizer",
       "adam() and sgd() make whole ones", loop_with({.optimizer = Optimizer{.learning_rate = 1}})},
      {"an optimizer without a rate", kArgument, "got 0", "[train_loop] the optimizer's learning_rate",
       "set it beside update", loop_with({.optimizer = Optimizer{.update = [](const Parameters&) {}}})},
      {"an optimizer with moments that a store has not", kArgument, "got 3",
       "[parameters] a store keeps 0 to 2 moments", "tensors of its own",
       loop_with({.optimizer = Optimizer{1, [](const Parameters&) {}, {"mine", 3}}})},
      {"one optimizer after another", kArgument, "those of adam", "[optimizer]", "call forget_optimizer()",
       [] {
         Parameters parameters;
         parameters.set_optimizer(adam({}).info);
         parameters.set_optimizer(sgd({}).info);
       }},
      {"a plan for moments that a store has not", kArgument, "got 3", "[memory_plan] moments", "adam() keeps 2",
       [] {
         Parameters parameters;
         const std::vector<Pair> pairs{{{4}, {5}}};
         BucketedBatches batches(pairs, {.pairs = 1});
         plan_memory(parameters, batches, [](const Batch&) { return TokenLoss{}; }, {.moments = 3});
       }},
      {"steps told to nobody", kArgument, "got an empty handler", "[train_loop] on_step", "leave the call out",
       [] { with_loop({}, [](TrainLoop& loop) { loop.on_step(nullptr); }); }},
      {"checkpoints saved by nobody", kArgument, "got an empty handler", "[train_loop] on_checkpoint",
       "leave the call out", [] { with_loop({}, [](TrainLoop& loop) { loop.on_checkpoint({}); }); }},
      {"an epoch of no batches", kArgument, "has 0 batches", "[train_loop] epoch 0", "the data that it was saved with",
       [] {
         with_loop(
             {}, [](TrainLoop& loop) { loop.step(); }, 0);
       }},
      {"going on within a shorter epoch", kArgument, "cannot start at batch 7", "[train_loop] epoch 0 has 2 batches",
       "give it the data",
       [] {
         with_loop({}, [](TrainLoop& loop) {
           loop.restore({.batch = 7, .steps = 7, .updates = 7});
           loop.step();
         });
       }},
      {"going on from a negative step", kArgument, "step -1", "[train_loop] cannot restore",
       "what load_checkpoint() returned", [] { with_loop({}, [](TrainLoop& loop) { loop.restore({.steps = -1}); }); }},
      {"going on with another accumulation", kArgument, "with 3 accumulated mini-batches of 2",
       "[train_loop] cannot restore", "a loop with the same accumulate",
       [] {
         with_loop({.accumulate = 2},
                   [](TrainLoop& loop) { loop.restore({.batch = 3, .steps = 3, .accumulated = 3}); });
       }},
  };
}

/// Plans for a store of 32 MiB, before which `prepare` is done.
std::function<void()> plan_with(const MemoryPlanOptions& options,
                                const std::function<void(const Tensor&)>& prepare = {}) {
  return [=] {
    Parameters parameters;
    const Tensor w = parameters.add("w", {1 << 21}, init::constant(1));
    if (prepare) prepare(w);
    const std::vector<Pair> pairs(4, Pair{{5, 6}, {7}});
    BucketedBatches batches(pairs, {.pairs = 2});
    const auto loss = [&](const Batch& batch) {
      return TokenLoss{sum(w), Tensor::full({}, batch.target_tokens, DType::i64)};
    };
    plan_memory(parameters, batches, loss, options).check();
  };
}

std::vector<Mistake> plan_mistakes() {
  return {
      {"more memory than there is", Kind::kOutOfMemory, "than the 1.0 MiB available",
       "[memory_plan] the largest batch (2 pairs, 6 source and 4 target tokens)", "use a smaller model",
       plan_with({.limit = 1 << 20})},
      {"a plan for no epochs", kArgument, "got 0 and 0", "[memory_plan] epochs must be >= 1", "(0: what is free)",
       plan_with({.epochs = 0})},
      {"a plan amid an update", kArgument, "waits for an update", "[memory_plan] the gradient of w",
       "plan before training",
       plan_with({},
                 [](const Tensor& w) {
                   Tape tape;
                   tape.backward(sum(w));
                 })},
  };
}

}  // namespace

std::vector<Mistake> training_mistakes() {
  std::vector<Mistake> all = model_mistakes();
  for (auto* table : {optimizer_mistakes, loop_mistakes, plan_mistakes})
    for (Mistake& mistake : table()) all.push_back(std::move(mistake));
  return all;
}

}  // namespace libtrain::testing
