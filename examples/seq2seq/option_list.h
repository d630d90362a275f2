/// The one list of a run's options, which flags, defaults and checkpoints share.
#pragma once
#include "examples/seq2seq/options.h"

namespace seq2seq {

/// Calls visit(name, member, group, help) for every option that a checkpoint keeps.
template <class AnyOptions, class Visit> void for_run_options(AnyOptions& o, const Visit& visit) {
  const char *data = "Data", *model = "Model", *training = "Training";
  visit("train", o.train, data,
        "tab-separated pairs, one \"source<TAB>target\" a line; without it: CMUdict, words to phonemes");
  visit("valid", o.valid, data, "pairs whose loss is shown at the end of every epoch");
  visit("test", o.test, data, "pairs to score at the end; lines with the same source are several references");
  visit("cmudict", o.cmudict, data, "file of the built-in dictionary, if it is not beside the sources");
  visit("source-tokens", o.source_tokens, data, "cut sources into chars or words");
  visit("target-tokens", o.target_tokens, data, "cut targets into chars or words (default: chars; CMUdict: words)");
  visit("max-length", o.max_length, data, "most tokens on a side; a longer pair is an error");
  visit("vocab-size", o.vocab_size, data,
        "most tokens of each vocabulary, the four special ones included; rarer ones are read and learnt as <unk>; 0: "
        "all");
  visit("min-count", o.min_count, data, "tokens that come less often in the training pairs are <unk> too");
  visit("size", o.size, model, "width of embeddings and layers");
  visit("heads", o.heads, model, "attention heads; must divide the width");
  visit("feed-forward", o.feed_forward, model, "inner width of the feed-forward layers");
  visit("encoder-layers", o.encoder_layers, model, "layers of the encoder");
  visit("decoder-layers", o.decoder_layers, model, "layers of the decoder");
  visit("dropout", o.dropout, model, "share of activations dropped while training, in [0, 1)");
  visit("label-smoothing", o.label_smoothing, model, "share of the probability spread over all classes, in [0, 1)");
  visit("post-norm", o.post_norm, model, "layer norm behind each sublayer instead of before it");
  visit("activation", o.activation, model, "relu or gelu");
  visit("tying", o.tying, model, "which embedding tables are one: none, target (with the output) or all");
  visit("epochs", o.epochs, training, "passes over the data");
  visit("updates", o.updates, training,
        "stop after so many updates, whatever the default of --epochs; 0: epochs decide");
  visit("batch-pairs", o.batch_pairs, training, "most pairs in a mini-batch; 0: no limit");
  visit("batch-tokens", o.batch_tokens, training, "most tokens on a side of a mini-batch; 0: no limit");
  visit("accumulate", o.accumulate, training, "mini-batches per update");
  visit("learning-rate", o.learning_rate, training, "peak learning rate of Adam");
  visit("warmup", o.warmup, training, "updates of linear warm-up");
  visit("schedule", o.schedule, training,
        "after warm-up: constant, linear, cosine (both to 0 at the end) or inverse-sqrt");
  visit("clip-norm", o.clip_norm, training, "longest gradient; 0: no clipping");
  visit("beta1", o.beta1, training, "Adam's decay of the mean");
  visit("beta2", o.beta2, training, "Adam's decay of the mean square");
  visit("weight-decay", o.weight_decay, training, "decoupled weight decay");
  visit("average-decay", o.average_decay, training,
        "a running average of the weights is validated, scored and used instead of them (0.999 is usual); 0: none");
  visit("valid-every", o.valid_every, training, "updates between validations; 0: only at an epoch's end");
  visit("patience", o.patience, training,
        "training ends when so many validations in a row bring no lower loss (see --best); 0: it goes on");
  visit("on-nonfinite", o.on_nonfinite, training,
        "an update that is NaN or infinite changes nothing; then skip it, rewind to the newest checkpoint, or stop");
  visit("nonfinite-limit", o.nonfinite_limit, training, "so many of them in a row end the run; 0: none");
  visit("precision", o.precision, training,
        "of layers and activations: f32, or bf16 (weights, norms, softmax and loss stay f32)");
  visit("seed", o.seed, training, "of initial values, order of the data and dropout");
}

}  // namespace seq2seq
