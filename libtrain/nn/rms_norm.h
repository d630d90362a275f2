#pragma once
#include <string>

#include "libtrain/ops/rms_norm.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// Root mean square normalization over the last dimension. Parameter as in torch.nn.RMSNorm: "weight" [size] (one).
class RMSNorm {
 public:
  /// Registers "<name>.weight". `epsilon` is added to the mean square.
  RMSNorm(Parameters& parameters, const std::string& name, int64_t size, double epsilon = 1e-5)
      : weight_(parameters.add(join_name(name, "weight"), {size}, init::constant(1))), epsilon_(epsilon) {}

  /// x [..., size] → the same shape
  Tensor operator()(const Tensor& x) const { return rms_norm(x, weight_, epsilon_); }

  /// [size]
  const Tensor& weight() const { return weight_; }

 private:
  Tensor weight_;
  double epsilon_;
};

}  // namespace libtrain
