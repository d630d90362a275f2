#pragma once
#include <string>

#include "libtrain/nn/dropout.h"
#include "libtrain/nn/linear.h"
#include "libtrain/ops/linear_activation.h"

namespace libtrain {

/// linear2(dropout(activation(linear1(x)))) (Vaswani et al. 2017, section 3.3). Parameters: "linear1.*" and "linear2.*", as in
/// torch.nn.TransformerEncoderLayer.
class FeedForward {
 public:
  /// Registers "<name>.linear1.*" and "<name>.linear2.*": size → inner → size. What the activation gives is dropped with probability `dropout`.
  /// Throws InvalidArgument unless that is in [0, 1).
  FeedForward(Parameters& parameters, const std::string& name, int64_t size, int64_t inner, Activation activation,
              float dropout)
      : dropout_(parameters, dropout, "feed_forward", "dropout"),
        first_(parameters, join_name(name, "linear1"), size, inner),
        second_(parameters, join_name(name, "linear2"), inner, size),
        activation_(activation) {}

  /// x [tokens, size] → [tokens, size]
  Tensor operator()(const Tensor& x, const Packing& packing) const { return second_(hidden(x, packing)); }

  /// The same without the product that comes last, for those who combine it with what they do next. → [tokens, inner]
  Tensor hidden(const Tensor& x, const Packing& packing) const {
    return linear_activation(x, first_.weight(), first_.bias(), activation_, packing, dropout_.spec());
  }
  /// The layer that hidden() leaves out, [inner] → [size].
  const Linear& output() const { return second_; }

  /// Whether dropout acts while a Tape is alive; it does until told otherwise.
  void train(bool on) { dropout_.train(on); }

 private:
  Dropout dropout_;
  Linear first_, second_;
  Activation activation_;
};

}  // namespace libtrain
