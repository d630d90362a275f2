/// What stands between two sublayers of a transformer, in one pass: the residual sum and the normalization of what comes out of it.
///   x = residual + dropout(branch + branch_bias),  y = layer_norm(x)
/// dropout as in kernels/dropout.h, layer_norm as in kernels/layer_norm.h. x is rounded to T, and y is that of the rounded x.
/// Backward, dx being the gradient that arrived at x from elsewhere and norm'(dy) the gradient of layer_norm:
///   total = dx + norm'(dy),  dresidual = total,  dbranch = total where kept, scaled,  dbranch_bias = sum over rows of dbranch
///   dweight and dbias as in layer_norm
/// Sums take what is summed before it is rounded.
#pragma once
#include "kernels/dropout.h"
#include "kernels/layer_norm.h"

namespace libtrain::kernels {

template <class T> struct AddDropoutLayerNorm {
  View<const T> residual;     // [rows, columns]
  View<const T> branch;       // [rows, columns]
  View<const T> branch_bias;  // [columns], or none
  DropoutMask mask;           // without a state nothing is dropped
  View<T> x;                  // [rows, columns]  out of forward, into backward; may alias branch
  LayerNorm<T> norm;          // its x is the one above
};

template <class T> struct AddDropoutLayerNormGradients {
  View<const T> dy;               // [rows, columns]
  View<const T> dx;               // [rows, columns], or none
  Sink<T> dresidual;              // [rows, columns]; may alias dx
  Sink<T> dbranch;                // [rows, columns]; may alias branch or x
  Sink<accum_t<T>> dbranch_bias;  // [columns]
  Sink<accum_t<T>> dweight;       // [columns]
  Sink<accum_t<T>> dbias;         // [columns]
  View<accum_t<T>> workspace;     // [layer_norm_blocks(device, rows), 3, columns]
};

template <Isa isa, class T> void add_dropout_layer_norm_forward(Cpu<isa>, const AddDropoutLayerNorm<T>&);
template <class T> void add_dropout_layer_norm_forward(Cuda, const AddDropoutLayerNorm<T>&);

template <Isa isa, class T>
void add_dropout_layer_norm_backward(Cpu<isa>, const AddDropoutLayerNorm<T>&, const AddDropoutLayerNormGradients<T>&);
template <class T>
void add_dropout_layer_norm_backward(Cuda, const AddDropoutLayerNorm<T>&, const AddDropoutLayerNormGradients<T>&);

}  // namespace libtrain::kernels
