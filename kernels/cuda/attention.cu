// Shapes    q, out, dout [query rows, heads * head_dim]; k, v [key rows, heads * head_dim], with row strides of their own.
// Mapping   Chooses, from what the host knows alone (type, head size, alignment, longest sequence), between the files beside this one:
//           attention_simt.cu any type and head size.
// Traffic, Numerics, Source, Measured: there.
#include "kernels/cuda/attention.cuh"

namespace libtrain::kernels {

template <class T> void attention_forward(Cuda where, const Attention<T>& a) { attention_forward_simt(where, a); }

template <class T>
void attention_backward(Cuda where, const Attention<T>& a, View<const T> dout, const AttentionGradients<T>& g) {
  attention_backward_simt(where, a, dout, g);
}

#define INSTANTIATE(T)                                        \
  template void attention_forward(Cuda, const Attention<T>&); \
  template void attention_backward(Cuda, const Attention<T>&, View<const T>, const AttentionGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
