#pragma once
#include "libtrain/ops/dropout.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// Dropout that acts while a Tape is alive and train(true) holds, the default. No parameters; random bits from the store's seed and step.
class Dropout {
 public:
  /// Elements are zeroed with probability p, the others divided by 1 - p. Throws InvalidArgument for p outside [0, 1), naming it as the
  /// argument `name` of `module`.
  Dropout(Parameters& parameters, float p, const char* module = "dropout", const char* name = "p")
      : rate_(detail::checked_share(module, name, p)),
        spec_{p, parameters.new_random_stream(), parameters.random_state()} {}

  /// x [..., columns] → the same shape
  Tensor operator()(const Tensor& x) const { return dropout(x, spec_); }
  /// x [tokens, columns] of packed sequences: draws the same as for the padded ones.
  Tensor operator()(const Tensor& x, const Packing& packing) const { return dropout(x, packing, spec_); }

  /// As operations take it that drop among other things.
  const DropoutSpec& spec() const { return spec_; }

  /// Whether dropout acts while a Tape is alive; it does until told otherwise.
  void train(bool on) { spec_.p = on ? rate_ : 0; }

 private:
  float rate_;
  DropoutSpec spec_;
};

}  // namespace libtrain
