#pragma once
#include <string>

#include "libtrain/nn/decoder_state.h"
#include "libtrain/nn/dropout.h"
#include "libtrain/nn/linear.h"
#include "libtrain/ops/attention.h"
#include "libtrain/ops/memory_projections.h"

namespace libtrain {

/// Multi-head attention over packed sequences (Vaswani et al. 2017, section 3.2). Parameters as in torch.nn.MultiheadAttention:
/// "in_proj_weight" [3 size, size] and "in_proj_bias" [3 size] (rows of queries, keys, values), "out_proj.weight", "out_proj.bias".
class MultiHeadAttention {
 public:
  /// Attention probabilities are dropped with probability `dropout` while a tape is alive and train(true) holds. Throws InvalidArgument unless
  /// that is in [0, 1) and `heads` divide the size.
  MultiHeadAttention(Parameters& parameters, const std::string& name, int64_t size, int64_t heads, float dropout)
      : heads_(checked_heads(size, heads)),
        dropout_(parameters, dropout, "attention", "dropout"),
        in_weight_(parameters.add(join_name(name, "in_proj_weight"), {3 * size, size}, init::xavier_uniform())),
        in_bias_(parameters.add(join_name(name, "in_proj_bias"), {3 * size}, init::constant(0))),
        out_(parameters, join_name(name, "out_proj"), size, size) {}

  /// Every position attends to all of its sequence, or (causal) to itself and those before it. x [tokens, size] → [tokens, size]
  Tensor self(const Tensor& x, const Packing& packing, bool causal) const {
    return out_(self_heads(x, packing, causal));
  }
  /// Every position of x attends to all of the memory sequence of the same number. → [tokens of x, size]
  Tensor cross(const Tensor& x, const Packing& packing, const Tensor& memory, const Packing& memory_packing) const {
    return out_(cross_heads(x, packing, memory, memory_packing));
  }

  /// The same without the projection that comes last, for those who combine it with what they do next.
  Tensor self_heads(const Tensor& x, const Packing& packing, bool causal) const {
    return self_attention(linear(x, in_weight_, in_bias_), packing, {heads_, causal, dropout_.spec()});
  }
  /// Likewise of cross(). → [tokens of x, size]
  Tensor cross_heads(const Tensor& x, const Packing& packing, const Tensor& memory,
                     const Packing& memory_packing) const {
    const auto [queries, keys_values] = cross_projection(x, memory, in_weight_, in_bias_);
    return cross_attention(queries, keys_values, packing, memory_packing, {heads_, false, dropout_.spec()});
  }
  /// Likewise with the projections of a memory that several layers have been given at once, of which this is number `layer`.
  Tensor cross_heads(const Tensor& x, const Packing& packing, const MemoryProjections& memory, size_t layer,
                     const Packing& memory_packing) const {
    return cross_attention(memory.queries(layer, x), memory.keys_values(layer), packing, memory_packing,
                           {heads_, false, dropout_.spec()});
  }

  /// Keys and values of a memory, for a DecoderState: [memory tokens, size] → [memory tokens, 2 size]
  Tensor keys_values(const Tensor& memory) const {
    const int64_t size = out_.weight().dim(0);
    return linear(memory, in_weight_.rows(size, 3 * size), in_bias_.rows(size, 3 * size));
  }
  /// self_heads(), causal, of the position that is open in `state`: a row for each sequence. x [rows, size] → [rows, size]
  Tensor next_self_heads(const Tensor& x, DecoderState& state, size_t layer) const {
    return state.self_attention(layer, linear(x, in_weight_, in_bias_), heads_);
  }
  /// cross_heads() likewise, with the keys and values of the memory that `state` holds.
  Tensor next_cross_heads(const Tensor& x, const DecoderState& state, size_t layer) const {
    const int64_t size = out_.weight().dim(0);
    return state.memory_attention(layer, linear(x, in_weight_.rows(0, size), in_bias_.rows(0, size)), heads_);
  }

  /// [3 size, size]: the rows of queries, then keys, then values.
  const Tensor& in_weight() const { return in_weight_; }
  /// [3 size], likewise.
  const Tensor& in_bias() const { return in_bias_; }
  /// The projection that the two leave out, [size] → [size].
  const Linear& output() const { return out_; }

  /// Whether dropout acts while a Tape is alive; it does until told otherwise.
  void train(bool on) { dropout_.train(on); }

 private:
  static int64_t checked_heads(int64_t size, int64_t heads) {
    LIBTRAIN_CHECK(heads > 0 && size % heads == 0,
                   "[attention] size {} does not divide into {} heads; choose heads that divide it", size, heads);
    return heads;
  }

  int64_t heads_;
  Dropout dropout_;
  Tensor in_weight_, in_bias_;
  Linear out_;
};

}  // namespace libtrain
