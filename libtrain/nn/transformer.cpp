#include "libtrain/nn/transformer.h"

#include "libtrain/ops/unpack_rows.h"

namespace libtrain {
namespace {

const TransformerOptions& checked(const TransformerOptions& o) {
  LIBTRAIN_CHECK(o.source_vocab > kSpecialTokens && o.target_vocab > kSpecialTokens,
                 "[transformer] vocabularies must hold more than the {} special tokens, got source_vocab {} and "
                 "target_vocab {}; Vocabulary::size() counts them",
                 kSpecialTokens, o.source_vocab, o.target_vocab);
  LIBTRAIN_CHECK(
      o.encoder_layers >= 1 && o.decoder_layers >= 1,
      "[transformer] expected at least one layer each, got encoder_layers {} and decoder_layers {}; 3 is the default",
      o.encoder_layers, o.decoder_layers);
  LIBTRAIN_CHECK(o.layer.size > 0 && o.layer.heads > 0 && o.layer.size % o.layer.heads == 0,
                 "[transformer] size {} does not divide into {} heads; choose heads that divide it", o.layer.size,
                 o.layer.heads);
  LIBTRAIN_CHECK(o.layer.feed_forward_size > 0,
                 "[transformer] feed_forward_size must be > 0, got {}; two to four times the size is usual",
                 o.layer.feed_forward_size);
  detail::checked_share("transformer", "dropout", o.layer.dropout);
  LIBTRAIN_CHECK(o.label_smoothing >= 0 && o.label_smoothing < 1,
                 "[transformer] label_smoothing must be in [0, 1), got {}; 0 turns it off, 0.1 is usual",
                 o.label_smoothing);
  LIBTRAIN_CHECK(o.max_positions > 0,
                 "[transformer] max_positions must be > 0, got {}; it bounds the tokens of a sequence",
                 o.max_positions);
  LIBTRAIN_CHECK(o.tying != Tying::kAll || o.source_vocab == o.target_vocab,
                 "[transformer] one table for both sides needs one vocabulary, got {} source and {} target ids; build "
                 "one from both sides, or choose another tying",
                 o.source_vocab, o.target_vocab);
  return o;
}

Tensor output_table(Parameters& parameters, const TransformerOptions& options, const Tensor& target_table) {
  if (options.tying != Tying::kNone) return target_table;
  return parameters.add("output.weight", {options.target_vocab, options.layer.size}, init::xavier_uniform());
}

MemoryProjections project_memory(const Tensor& memory, const std::vector<DecoderLayer>& layers) {
  std::vector<Tensor> weights, biases;
  for (const DecoderLayer& layer : layers) {
    weights.push_back(layer.memory_attention().in_weight());
    biases.push_back(layer.memory_attention().in_bias());
  }
  return MemoryProjections(memory, std::move(weights), std::move(biases));
}

/// That `state` is one of a model with so many decoder layers, of which `output` is the last matrix.
void check_state(const DecoderState& state, int64_t layers, const Tensor& output) {
  LIBTRAIN_CHECK(state.layers() == layers,
                 "[transformer] expected a state of {} layers, got {}; begin_decoding() of this model makes one",
                 layers, state.layers());
  LIBTRAIN_CHECK(state.size() == output.dim(1) && state.dtype() == output.dtype() && state.device() == output.device(),
                 "[transformer] expected a state of size {} in {} on {}, got size {} in {} on {}; begin_decoding() of "
                 "this model makes one",
                 output.dim(1), name(output.dtype()), name(output.device()), state.size(), name(state.dtype()),
                 name(state.device()));
}

}  // namespace

Transformer::Transformer(Parameters& parameters, const Options& options)
    : options_(checked(options)),
      source_embedding_(parameters, options.tying == Tying::kAll ? "embedding" : "source_embedding",
                        options.source_vocab, options.layer.size, options.max_positions),
      target_embedding_(options.tying == Tying::kAll ? Embedding(source_embedding_.table(), options.max_positions)
                                                     : Embedding(parameters, "target_embedding", options.target_vocab,
                                                                 options.layer.size, options.max_positions)),
      output_(output_table(parameters, options, target_embedding_.table())),
      source_dropout_(parameters, options.layer.dropout, "transformer", "dropout"),
      target_dropout_(parameters, options.layer.dropout, "transformer", "dropout") {
  for (int64_t i = 0; i < options.encoder_layers; ++i)
    encoder_.emplace_back(parameters, "encoder.layers." + std::to_string(i), options.layer);
  for (int64_t i = 0; i < options.decoder_layers; ++i)
    decoder_.emplace_back(parameters, "decoder.layers." + std::to_string(i), options.layer);
  if (options.layer.pre_norm) {
    encoder_norm_.emplace(parameters, "encoder.norm", options.layer.size);
    decoder_norm_.emplace(parameters, "decoder.norm", options.layer.size);
  }
}

Tensor Transformer::encode(const Tensor& source_ids, const Packing& source) const {
  ResidualSum x = source_embedding_(source_ids, source, source_dropout_.spec());
  for (const EncoderLayer& layer : encoder_) x = layer(std::move(x), source);
  return encoder_norm_ ? std::move(x).normalized(*encoder_norm_, source).y : x.value(source);
}

Tensor Transformer::decode(const Tensor& target_in, const Packing& target, const Tensor& memory,
                           const Packing& source) const {
  ResidualSum x = target_embedding_(target_in, target, target_dropout_.spec());
  if (memory.device() == Device::kCuda) {  // all at once, where launches count
    const MemoryProjections projections = project_memory(memory, decoder_);
    for (size_t i = 0; i < decoder_.size(); ++i) x = decoder_[i](std::move(x), target, projections, i, source);
  } else {
    for (const DecoderLayer& layer : decoder_) x = layer(std::move(x), target, memory, source);
  }
  return decoder_norm_ ? std::move(x).normalized(*decoder_norm_, target).y : x.value(target);
}

DecoderState Transformer::begin_decoding(const Tensor& memory, const Packing& source) const {
  const NoTape nothing_recorded;
  std::vector<Tensor> keys_values;
  for (const DecoderLayer& layer : decoder_) keys_values.push_back(layer.memory_attention().keys_values(memory));
  return DecoderState(keys_values, source);
}

Tensor Transformer::decode_next(const Tensor& ids, DecoderState& state) const {
  check_state(state, int64_t(decoder_.size()), output_);
  LIBTRAIN_CHECK(ids.defined() && ids.shape() == Shape{state.rows()},
                 "[transformer] ids must be i32[{}], got {}; decode_next() takes one for each row", state.rows(),
                 ids.spec());
  LIBTRAIN_CHECK(state.length() < options_.max_positions,
                 "[transformer] all {} positions are decoded; stop there, or train with larger max_positions",
                 options_.max_positions);
  const NoTape nothing_recorded;
  state.open_position();
  ResidualSum x = target_embedding_(ids, state.position(), {});
  for (size_t i = 0; i < decoder_.size(); ++i) x = decoder_[i].next(std::move(x), state, i);
  const Tensor hidden =
      decoder_norm_ ? std::move(x).normalized(*decoder_norm_, state.position()).y : x.value(state.position());
  state.close_position();
  return hidden;
}

Tensor Transformer::operator()(const Batch& batch) const {
  check_batch(batch, options_.source_vocab, options_.target_vocab);
  const Tensor memory = encode(batch.source_ids, batch.source);
  return project(decode(batch.target_in, batch.target, memory, batch.source));
}

Tensor Transformer::operator()(const Tensor& input_ids, const Tensor& target_ids) const {
  const Batch batch = pack_padded(input_ids, target_ids, kPad, output_.device());
  const Tensor index = unpack_index(batch.target, target_ids.dim(1));
  return unpack_rows((*this)(batch), index.reshape({-1}))
      .reshape({target_ids.dim(0), target_ids.dim(1), options_.target_vocab});
}

TokenLoss Transformer::loss(const Batch& batch) const {
  check_batch(batch, options_.source_vocab, options_.target_vocab);
  const Tensor memory = encode(batch.source_ids, batch.source);
  const Tensor hidden = decode(batch.target_in, batch.target, memory, batch.source);
  return linear_cross_entropy(hidden, output_, {}, batch.target_out, kPad, options_.label_smoothing);
}

void Transformer::train(bool on) {
  source_dropout_.train(on);
  target_dropout_.train(on);
  for (EncoderLayer& layer : encoder_) layer.train(on);
  for (DecoderLayer& layer : decoder_) layer.train(on);
}

}  // namespace libtrain
