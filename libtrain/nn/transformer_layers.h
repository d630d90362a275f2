/// The two layers of an encoder-decoder transformer (Vaswani et al. 2017), with the norm before each sublayer or behind it.
#pragma once
#include <string>
#include <utility>

#include "libtrain/nn/dropout.h"
#include "libtrain/nn/feed_forward.h"
#include "libtrain/nn/layer_norm.h"
#include "libtrain/nn/multi_head_attention.h"

namespace libtrain {

/// What all layers of a transformer have in common.
struct TransformerLayerOptions {
  int64_t size = 128;                         ///< columns of what goes from layer to layer
  int64_t heads = 4;                          ///< of each attention; must divide size
  int64_t feed_forward_size = 512;            ///< columns between the two products of the feed-forward part
  Activation activation = Activation::kRelu;  ///< of the feed-forward part
  float dropout = 0.1f;  ///< in [0, 1): of embeddings, sublayer outputs, attention probabilities and activations
  bool pre_norm = true;  ///< norm before each sublayer, else behind its sum as in the paper
};

/// A sum along the residual path, x + dropout(branch + branch_bias), whose last term is added only when it is asked for: the norm
/// that mostly comes next then does it in its own pass.
class ResidualSum {
 public:
  /// x [tokens, size] alone.
  ResidualSum(Tensor x) : x_(std::move(x)) {}
  /// x and branch [tokens, size], branch_bias [size].
  ResidualSum(Tensor x, Tensor branch, Tensor branch_bias, DropoutSpec dropout)
      : x_(std::move(x)),
        branch_(std::move(branch)),
        branch_bias_(std::move(branch_bias)),
        dropout_(std::move(dropout)) {}

  /// [tokens, size]
  Tensor value(const Packing& packing) const {
    return branch_.defined() ? dropout_add(x_, add(branch_, branch_bias_), packing, dropout_) : x_;
  }
  /// The sum and its norm. The sum is written over a branch that nobody else holds, so that this object is used up.
  NormalizedSum normalized(const LayerNorm& norm, const Packing& packing) && {
    if (!branch_.defined()) return {x_, norm(x_)};
    return norm.of_sum(x_, std::move(branch_), branch_bias_, packing, dropout_);
  }

 private:
  Tensor x_, branch_, branch_bias_;
  DropoutSpec dropout_;
};

/// x + dropout(sublayer(x)), with its norm: norm first (x + dropout(sublayer(norm(x)))) or last (norm(x + dropout(sublayer(x)))).
/// The sublayer is given in two parts: inner(x), and the linear map `output` of that.
class Residual {
 public:
  /// Registers the norm as "<norm_name>.weight" and "<norm_name>.bias". Throws InvalidArgument unless options.dropout is in [0, 1).
  Residual(Parameters& parameters, const std::string& norm_name, const TransformerLayerOptions& options)
      : dropout_(parameters, options.dropout, "residual", "dropout"),
        norm_(parameters, norm_name, options.size),
        pre_norm_(options.pre_norm) {}

  /// `sum` [tokens, size] with the sublayer's branch added; inner is given [tokens, size], and `output` maps what it returns back to size.
  template <class Inner>
  ResidualSum operator()(ResidualSum sum, const Packing& packing, const Linear& output, Inner&& inner) const {
    const auto [x, h] = pre_norm_ ? std::move(sum).normalized(norm_, packing) : unnormalized(sum.value(packing));
    ResidualSum next(x, linear(inner(h), output.weight()), output.bias(), dropout_.spec());
    if (pre_norm_) return next;
    return std::move(next).normalized(norm_, packing).y;
  }

  /// Whether dropout acts while a Tape is alive; it does until told otherwise.
  void train(bool on) { dropout_.train(on); }

 private:
  static NormalizedSum unnormalized(const Tensor& x) { return {x, x}; }

  Dropout dropout_;
  LayerNorm norm_;
  bool pre_norm_;
};

/// Self attention and feed-forward. Parameter names are those of torch.nn.TransformerEncoderLayer.
class EncoderLayer {
 public:
  /// Registers "<name>.self_attn.*", "<name>.linear1.*", "<name>.linear2.*", "<name>.norm1.*" and "<name>.norm2.*".
  EncoderLayer(Parameters& parameters, const std::string& name, const TransformerLayerOptions& options)
      : attention_(parameters, join_name(name, "self_attn"), options.size, options.heads, options.dropout),
        feed_forward_(parameters, name, options.size, options.feed_forward_size, options.activation, options.dropout),
        around_attention_(parameters, join_name(name, "norm1"), options),
        around_feed_forward_(parameters, join_name(name, "norm2"), options) {}

  /// x [tokens, size] → [tokens, size]. Either is a sum whose last term may be open: a Tensor will do for x, value() or normalized() of the
  /// result completes it. A sum that is moved in is completed in place.
  ResidualSum operator()(ResidualSum x, const Packing& packing) const {
    ResidualSum attended = around_attention_(std::move(x), packing, attention_.output(),
                                             [&](const Tensor& h) { return attention_.self_heads(h, packing, false); });
    return around_feed_forward_(std::move(attended), packing, feed_forward_.output(),
                                [&](const Tensor& h) { return feed_forward_.hidden(h, packing); });
  }

  /// Whether dropout acts while a Tape is alive; it does until told otherwise.
  void train(bool on) {
    attention_.train(on);
    feed_forward_.train(on);
    around_attention_.train(on);
    around_feed_forward_.train(on);
  }

 private:
  MultiHeadAttention attention_;
  FeedForward feed_forward_;
  Residual around_attention_, around_feed_forward_;
};

/// Causal self attention, attention to the encoder's output, feed-forward. Parameter names are those of torch.nn.TransformerDecoderLayer.
class DecoderLayer {
 public:
  /// Registers those of EncoderLayer with "<name>.multihead_attn.*" and "<name>.norm3.*" besides.
  DecoderLayer(Parameters& parameters, const std::string& name, const TransformerLayerOptions& options)
      : self_attention_(parameters, join_name(name, "self_attn"), options.size, options.heads, options.dropout),
        memory_attention_(parameters, join_name(name, "multihead_attn"), options.size, options.heads, options.dropout),
        feed_forward_(parameters, name, options.size, options.feed_forward_size, options.activation, options.dropout),
        around_self_(parameters, join_name(name, "norm1"), options),
        around_memory_(parameters, join_name(name, "norm2"), options),
        around_feed_forward_(parameters, join_name(name, "norm3"), options) {}

  /// x [target tokens, size], memory [source tokens, size] → [target tokens, size]; x and the result are sums, as in EncoderLayer.
  ResidualSum operator()(ResidualSum x, const Packing& target, const Tensor& memory, const Packing& source) const {
    return around_causal(std::move(x), target,
                         [&](const Tensor& h) { return memory_attention_.cross_heads(h, target, memory, source); });
  }
  /// Likewise as layer number `layer` of those whose projections of the memory were made together.
  ResidualSum operator()(ResidualSum x, const Packing& target, const MemoryProjections& memory, size_t layer,
                         const Packing& source) const {
    return around_causal(std::move(x), target, [&](const Tensor& h) {
      return memory_attention_.cross_heads(h, target, memory, layer, source);
    });
  }
  /// The position that is open in `state`, as layer number `layer`. x [rows, size] → [rows, size]; not differentiable.
  ResidualSum next(ResidualSum x, DecoderState& state, size_t layer) const {
    return around_heads(
        std::move(x), state.position(),
        [&](const Tensor& h) { return self_attention_.next_self_heads(h, state, layer); },
        [&](const Tensor& h) { return memory_attention_.next_cross_heads(h, state, layer); });
  }
  /// The attention to the memory.
  const MultiHeadAttention& memory_attention() const { return memory_attention_; }

  /// Whether dropout acts while a Tape is alive; it does until told otherwise.
  void train(bool on) {
    self_attention_.train(on);
    memory_attention_.train(on);
    feed_forward_.train(on);
    around_self_.train(on);
    around_memory_.train(on);
    around_feed_forward_.train(on);
  }

 private:
  template <class CrossHeads>
  ResidualSum around_causal(ResidualSum x, const Packing& target, const CrossHeads& cross_heads) const {
    return around_heads(
        std::move(x), target, [&](const Tensor& h) { return self_attention_.self_heads(h, target, true); },
        cross_heads);
  }
  template <class SelfHeads, class CrossHeads> ResidualSum around_heads(ResidualSum x, const Packing& target,
                                                                        const SelfHeads& self_heads,
                                                                        const CrossHeads& cross_heads) const {
    ResidualSum a = around_self_(std::move(x), target, self_attention_.output(), self_heads);
    ResidualSum b = around_memory_(std::move(a), target, memory_attention_.output(), cross_heads);
    return around_feed_forward_(std::move(b), target, feed_forward_.output(),
                                [&](const Tensor& h) { return feed_forward_.hidden(h, target); });
  }

  MultiHeadAttention self_attention_, memory_attention_;
  FeedForward feed_forward_;
  Residual around_self_, around_memory_, around_feed_forward_;
};

}  // namespace libtrain
