/// The encoder-decoder transformer of Vaswani et al., "Attention is all you need", 2017.
///
///   Parameters parameters;
///   Transformer model(parameters, {.source_vocab = 32, .target_vocab = 48});
///   Tensor logits = model(input_ids, target_ids);      // [B, T, V], teacher forcing
///   TokenLoss loss = model.loss(batch);                // what a TrainLoop minimises
#pragma once
#include <optional>
#include <vector>

#include "libtrain/data/batch.h"
#include "libtrain/nn/embedding.h"
#include "libtrain/nn/transformer_layers.h"
#include "libtrain/ops/cross_entropy.h"
#include "libtrain/ops/linear_cross_entropy.h"

namespace libtrain {

/// Which embedding tables are one and the same tensor.
enum class Tying {
  kNone,    ///< three tables: source, target, output
  kTarget,  ///< the output projection uses the target table (Press and Wolf, EACL 2017)
  kAll      ///< one table for source, target and output; needs one vocabulary
};

/// What a Transformer is built from. The two vocabularies must be set.
struct TransformerOptions {
  int64_t source_vocab = 0;            ///< ids, special ones included; must be set
  int64_t target_vocab = 0;            ///< likewise
  int64_t encoder_layers = 3;          ///< at least one
  int64_t decoder_layers = 3;          ///< at least one
  TransformerLayerOptions layer = {};  ///< of every layer, on both sides
  Tying tying = Tying::kTarget;        ///< kAll needs equal vocabularies
  /// Longest sequence, kEos and kBos counted; longer ones are refused. Default 1024.
  int64_t max_positions = 1024;
  /// Share of the probability that the loss spreads over all classes (Szegedy et al. 2016), in [0, 1). Default 0.
  double label_smoothing = 0;
};

/// Works on packed batches inside: no computation is spent on padding. Embeddings are scaled by sqrt(size), and sinusoidal positions are added
/// (libtrain/nn/embedding.h). With pre_norm, the default, encoder and decoder end with a norm of their own. The output projection has no bias.
/// Matrices begin as xavier_uniform, tables as normal(0, size^-0.5), biases as 0. greedy_decode() (libtrain/nn/decode.h) uses what was trained;
/// examples/programs has a decoder without an encoder, made of the same layers.
/// Parameter names are those of the same model built from torch.nn modules, with "source_embedding", "target_embedding" and (untied)
/// "output" beside "encoder" and "decoder".
class Transformer {
 public:
  using Options = TransformerOptions;  ///< what the constructor takes

  /// Registers all parameters. Throws InvalidArgument naming the first option that is out of range.
  Transformer(Parameters& parameters, const Options& options);

  /// Textbook form. input_ids i32[B, S] and target_ids i32[B, T], both ending with kEos and filled up with kPad; target_ids are the labels:
  /// the decoder sees them shifted by one behind kBos. → logits [B, T, target_vocab], zero where target_ids is padding.
  /// Throws as pack_padded() and check_batch() do.
  Tensor operator()(const Tensor& input_ids, const Tensor& target_ids) const;
  /// Packed form: logits [target tokens, target_vocab] for batch.target_out. Throws as check_batch() does.
  Tensor operator()(const Batch& batch) const;
  /// Cross-entropy of batch.target_out, summed, with the number of targets; the logits are never held as a whole. Smoothed as the options say,
  /// also for validation.
  /// Throws as check_batch() does.
  TokenLoss loss(const Batch& batch) const;

  /// source_ids i32[source tokens] → memory [source tokens, size]. Each source ends in kEos, as batches have it.
  Tensor encode(const Tensor& source_ids, const Packing& source) const;
  /// target_in i32[target tokens] → hidden states [target tokens, size]
  Tensor decode(const Tensor& target_in, const Packing& target, const Tensor& memory, const Packing& source) const;
  /// The beginning of decoding position by position: one row for each sequence of `memory`, with nothing before it. A row of the result of
  /// decode_next() is that of decode() over all positions that the row was given, but for rounding. Not differentiable: records nothing.
  DecoderState begin_decoding(const Tensor& memory, const Packing& source) const;
  /// The next position of every row of `state`: ids i32[rows] → hidden states [rows, size]. Not differentiable: records nothing.
  /// Throws InvalidArgument for the state of a model with other layers, for ids of another shape or outside the vocabulary, and beyond
  /// max_positions; `state` is then as before.
  Tensor decode_next(const Tensor& ids, DecoderState& state) const;
  /// hidden [..., size] → logits [..., target_vocab]
  Tensor project(const Tensor& hidden) const { return linear(hidden, output_, {}); }

  /// Dropout acts in training mode (the default) while a Tape is alive, and never otherwise.
  void train(bool on = true);
  /// As given to the constructor.
  const Options& options() const { return options_; }

 private:
  Options options_;
  Embedding source_embedding_, target_embedding_;
  Tensor output_;  // [target_vocab, size]
  Dropout source_dropout_, target_dropout_;
  std::vector<EncoderLayer> encoder_;
  std::vector<DecoderLayer> decoder_;
  std::optional<LayerNorm> encoder_norm_, decoder_norm_;
};

}  // namespace libtrain
