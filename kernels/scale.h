/// y = factor * x + offset, or y += that. Its gradient is factor * dy, and with factor 1 this is how gradients are passed on. Where `by` is given,
/// `factor` is multiplied by what it holds when the kernel runs.
#pragma once
#include <bit>

#include "kernels/dtype.h"

namespace libtrain::kernels {

/// What leaves every number as it is when it is added, -0 too.
constexpr double kNoOffset = -0.0;

template <class T> struct Scale {
  View<const T> x;
  double factor;
  Sink<T> y;  // as many elements as x; may alias it
  double offset = kNoOffset;
  View<const accum_t<T>> by = {};  // one element, or none

  /// Whether nothing is to be done, as is soon known: 1 * x in the place of x.
  constexpr bool changes_nothing(accum_t<T> product) const {
    return product == 1 && x.data == y.data && !y.accumulate &&
           std::bit_cast<uint64_t>(offset) == std::bit_cast<uint64_t>(kNoOffset);
  }
};

template <Isa isa, class T> void scale(Cpu<isa>, const Scale<T>&);
template <class T> void scale(Cuda, const Scale<T>&);

}  // namespace libtrain::kernels
