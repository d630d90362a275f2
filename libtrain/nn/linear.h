#pragma once
#include <string>

#include "libtrain/ops/linear.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// y = x weight^T + bias. Parameters as in torch.nn.Linear: "weight" [outputs, inputs] (Xavier uniform), "bias" [outputs] (zero).
class Linear {
 public:
  /// Registers the parameters under "<name>.weight" and "<name>.bias".
  Linear(Parameters& parameters, const std::string& name, int64_t inputs, int64_t outputs, bool bias = true)
      : weight_(parameters.add(join_name(name, "weight"), {outputs, inputs}, init::xavier_uniform())),
        bias_(bias ? parameters.add(join_name(name, "bias"), {outputs}, init::constant(0)) : Tensor()) {}

  /// x [..., inputs] → [..., outputs]
  Tensor operator()(const Tensor& x) const { return linear(x, weight_, bias_); }

  /// [outputs, inputs]
  const Tensor& weight() const { return weight_; }
  /// [outputs]; undefined for a layer without.
  const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_, bias_;
};

}  // namespace libtrain
