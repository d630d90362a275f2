#pragma once
#include <string>
#include <utility>

#include "libtrain/ops/add_dropout_layer_norm.h"
#include "libtrain/ops/layer_norm.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// Layer normalization over the last dimension. Parameters as in torch.nn.LayerNorm: "weight" [size] (one), "bias" [size] (zero).
class LayerNorm {
 public:
  /// Registers "<name>.weight" and "<name>.bias". `epsilon` is added to the variance.
  LayerNorm(Parameters& parameters, const std::string& name, int64_t size, double epsilon = 1e-5)
      : weight_(parameters.add(join_name(name, "weight"), {size}, init::constant(1))),
        bias_(parameters.add(join_name(name, "bias"), {size}, init::constant(0))),
        epsilon_(epsilon) {}

  /// x [..., size] → the same shape
  Tensor operator()(const Tensor& x) const { return layer_norm(x, weight_, bias_, epsilon_); }
  /// Of residual + dropout(branch + branch_bias), together with that sum, which may be written over a branch that is moved in. All
  /// [tokens, size], the bias [size].
  NormalizedSum of_sum(const Tensor& residual, Tensor branch, const Tensor& branch_bias, const Packing& packing,
                       const DropoutSpec& dropout) const {
    return add_dropout_layer_norm(residual, std::move(branch), branch_bias, weight_, bias_, packing, dropout, epsilon_);
  }

  /// [size]
  const Tensor& weight() const { return weight_; }
  /// [size]
  const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_, bias_;
  double epsilon_;
};

}  // namespace libtrain
