/// The two layers of an encoder-decoder transformer (Vaswani et al. 2017), with the norm before each sublayer or behind it.
#pragma once
#include <string>

#include "libtrain/nn/feed_forward.h"
#include "libtrain/nn/layer_norm.h"
#include "libtrain/nn/multi_head_attention.h"

namespace libtrain {

struct TransformerLayerOptions {
  int64_t size = 128;
  int64_t heads = 4;
  int64_t feed_forward_size = 512;
  Activation activation = Activation::kRelu;
  float dropout = 0.1f;
  bool pre_norm = true;
};

/// x + dropout(sublayer(x)), with its norm: norm first (x + dropout(sublayer(norm(x)))) or last (norm(x + dropout(sublayer(x)))).
class Residual {
 public:
  Residual(Parameters& parameters, const std::string& norm_name, const TransformerLayerOptions& options)
      : norm_(parameters, norm_name, options.size),
        pre_norm_(options.pre_norm),
        rate_(options.dropout),
        dropout_{options.dropout, parameters.new_random_stream(), parameters.random_state()} {}

  template <class Sublayer> Tensor operator()(const Tensor& x, const Packing& packing, Sublayer&& sublayer) const {
    if (pre_norm_) return dropout_add(x, sublayer(norm_(x)), packing, dropout_);
    return norm_(dropout_add(x, sublayer(x), packing, dropout_));
  }

  void train(bool on) { dropout_.p = on ? rate_ : 0; }

 private:
  LayerNorm norm_;
  bool pre_norm_;
  float rate_;
  DropoutSpec dropout_;
};

/// Self attention and feed-forward. Parameter names are those of torch.nn.TransformerEncoderLayer.
class EncoderLayer {
 public:
  EncoderLayer(Parameters& parameters, const std::string& name, const TransformerLayerOptions& options)
      : attention_(parameters, name + ".self_attn", options.size, options.heads, options.dropout),
        feed_forward_(parameters, name + ".", options.size, options.feed_forward_size, options.activation,
                      options.dropout),
        around_attention_(parameters, name + ".norm1", options),
        around_feed_forward_(parameters, name + ".norm2", options) {}

  /// x [tokens, size] → [tokens, size]
  Tensor operator()(const Tensor& x, const Packing& packing) const {
    const Tensor attended =
        around_attention_(x, packing, [&](const Tensor& h) { return attention_.self(h, packing, false); });
    return around_feed_forward_(attended, packing, [&](const Tensor& h) { return feed_forward_(h, packing); });
  }

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
  DecoderLayer(Parameters& parameters, const std::string& name, const TransformerLayerOptions& options)
      : self_attention_(parameters, name + ".self_attn", options.size, options.heads, options.dropout),
        memory_attention_(parameters, name + ".multihead_attn", options.size, options.heads, options.dropout),
        feed_forward_(parameters, name + ".", options.size, options.feed_forward_size, options.activation,
                      options.dropout),
        around_self_(parameters, name + ".norm1", options),
        around_memory_(parameters, name + ".norm2", options),
        around_feed_forward_(parameters, name + ".norm3", options) {}

  /// x [target tokens, size], memory [source tokens, size] → [target tokens, size]
  Tensor operator()(const Tensor& x, const Packing& target, const Tensor& memory, const Packing& source) const {
    const Tensor a = around_self_(x, target, [&](const Tensor& h) { return self_attention_.self(h, target, true); });
    const Tensor b =
        around_memory_(a, target, [&](const Tensor& h) { return memory_attention_.cross(h, target, memory, source); });
    return around_feed_forward_(b, target, [&](const Tensor& h) { return feed_forward_(h, target); });
  }

  void train(bool on) {
    self_attention_.train(on);
    memory_attention_.train(on);
    feed_forward_.train(on);
    around_self_.train(on);
    around_memory_.train(on);
    around_feed_forward_.train(on);
  }

 private:
  MultiHeadAttention self_attention_, memory_attention_;
  FeedForward feed_forward_;
  Residual around_self_, around_memory_, around_feed_forward_;
};

}  // namespace libtrain
