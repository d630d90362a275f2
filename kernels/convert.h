/// Elements of one float type in another: y[i] = x[i], rounded to nearest even where y is the narrower. NaN stays NaN.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

/// Instantiated for all pairs of float, bf16 and double; f64 reaches bf16 by way of f32.
template <class From, class To> struct Convert {
  View<const From> x;
  View<To> y;  // of the size of x
};

template <Isa isa, class From, class To> void convert(Cpu<isa>, const Convert<From, To>&);
template <class From, class To> void convert(Cuda, const Convert<From, To>&);

}  // namespace libtrain::kernels
