/// How many elements are not finite, for the search for the operation that made the first of them.
///   counts[0] += number of NaN,  counts[1] += number of infinities, of either sign
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct CountNonFinite {
  View<const T> values;  // [size]
  View<int64_t> counts;  // [2]
};

template <Isa isa, class T> void count_nonfinite(Cpu<isa>, const CountNonFinite<T>&);
template <class T> void count_nonfinite(Cuda, const CountNonFinite<T>&);

}  // namespace libtrain::kernels
