// Shapes    x, residual, y, dy, dx, dresidual [rows, columns].
// Mapping   A thread owns a pack of 16 bytes (where rows do not divide into packs, one column) and strides over the rows. It draws the
//           bits of its eight columns: for bf16 all are its own, for f32 the neighbour draws the same.
// Traffic   Forward reads x (and residual) and writes y: 2 x size (3 x size). Backward reads dy once and writes dx and dresidual: 2 to
//           3 x size, and one more for each that is added to. Bound by memory; 7 rounds of Philox are about 40 integer operations
//           a pack.
// Numerics  One product in f32 (f64 for f64), plus the residual, rounded once. Bits by logical place: kernels/philox.h.
// Source    Srivastava et al., JMLR 2014; Salmon et al., SC 2011.
// Measured  docs/kernels.md.
#include "kernels/dropout.h"

#include "kernels/cuda/dropout_bits.cuh"
#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// y = (kept ? x * scale : 0), plus the residual; `width` columns a thread.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads) forward_kernel(Dropout<T> k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const auto [column, first_row, row_stride] = matrix_thread<width>();
  if (column >= columns) return;
  const Dropper<accum_t<T>> dropper(k.mask);
  for (int64_t row = first_row; row < rows; row += row_stride) {
    const int64_t at = row * columns + column;
    auto y = load_elements<width>(k.x.data + at);
    dropper.drop(y.at, dropper.place_of(k.mask, row), column);
    if (k.residual.data) y = plus(y, load_elements<width>(k.residual.data + at));
    store_elements(k.y.data + at, y);
  }
}

/// dx (+)= (kept ? dy * scale : 0) and dresidual (+)= dy; `width` columns a thread.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    backward_kernel(Dropout<T> k, const T* all_dy, DropoutGradients<T> g) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const auto [column, first_row, row_stride] = matrix_thread<width>();
  if (column >= columns) return;
  const Dropper<accum_t<T>> dropper(k.mask);
  for (int64_t row = first_row; row < rows; row += row_stride) {
    const int64_t at = row * columns + column;
    auto dy = load_elements<width>(all_dy + at);
    if (g.dresidual.data) put_elements(g.dresidual.data + at, dy, g.dresidual.accumulate);
    if (!g.dx.data) continue;
    dropper.drop(dy.at, dropper.place_of(k.mask, row), column);
    put_elements(g.dx.data + at, dy, g.dx.accumulate);
  }
}

}  // namespace

template <class T> void dropout_forward(Cuda where, const Dropout<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  if (columns % Pack<T>::kSize == 0 && aligned_16(k.x.data, k.residual.data, k.y.data))
    launch(where, "dropout_forward", matrix_shape(rows, columns, Pack<T>::kSize), forward_kernel<Pack<T>::kSize, T>, k);
  else
    launch(where, "dropout_forward", matrix_shape(rows, columns, 1), forward_kernel<1, T>, k);
}

template <class T>
void dropout_backward(Cuda where, const Dropout<T>& k, View<const T> dy, const DropoutGradients<T>& g) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  if (columns % Pack<T>::kSize == 0 && aligned_16(dy.data, g.dx.data, g.dresidual.data))
    launch(where, "dropout_backward", matrix_shape(rows, columns, Pack<T>::kSize), backward_kernel<Pack<T>::kSize, T>,
           k, dy.data, g);
  else
    launch(where, "dropout_backward", matrix_shape(rows, columns, 1), backward_kernel<1, T>, k, dy.data, g);
}

#define INSTANTIATE(T)                                    \
  template void dropout_forward(Cuda, const Dropout<T>&); \
  template void dropout_backward(Cuda, const Dropout<T>&, View<const T>, const DropoutGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
