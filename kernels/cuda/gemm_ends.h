/// What a product of kernels/gemm.h leaves to kernels of its own where cuBLASLt has no algorithm that adds the bias or applies the activation.
#pragma once
#include "kernels/gemm.h"

namespace libtrain::kernels {

/// c (+)= the bias, or zero without one, for each product of the batch: what is left of products with k = 0, and what others are added to.
/// Instantiated as gemm.
template <class In, class Out> void start_products(Cuda where, const Gemm<In, Out>& g);

/// c = activation(c) for each product of the batch; nothing where there is none. Instantiated as gemm.
template <class In, class Out> void activate_products(Cuda where, const Gemm<In, Out>& g);

}  // namespace libtrain::kernels
