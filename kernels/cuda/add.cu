// Shapes    a, y [rows, columns]; b the same, or [1, columns] for all rows.
// Mapping   b as large as a: one array; a thread owns a pack of 16 bytes (behind the last full one, or where an address is no multiple of 16,
//           one element) and strides over the grid. b a row: a thread owns the columns of a pack (where rows do not divide into packs, one
//           column), keeps b's there in registers and strides over the rows.
// Traffic   Reads a and b, writes y: 3 x size for a residual, 2 x size for a bias; bound by memory.
// Numerics  One addition in f32 (f64 for f64), rounded once.
// Measured  docs/kernels.md.
#include "kernels/add.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// y = a + b for arrays of equal size, a pack or an element at a time.
template <class T> __global__ void __launch_bounds__(kBlockThreads) add_arrays(Add<T> k, Flat f) {
  for_elements<T>(f, [&]<int width>(int64_t at) {
    store_elements(k.y.data + at, plus(load_elements<width>(k.a.data + at), load_elements<width>(k.b.data + at)));
  });
}

/// y = a + the row b, `width` columns a thread.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads) add_row(Add<T> k) {
  const int64_t rows = k.y.dims[0], columns = k.y.dims[1];
  const auto [column, first_row, row_stride] = matrix_thread<width>();
  if (column >= columns) return;
  const auto b = load_elements<width>(k.b.data + column);
  for (int64_t row = first_row; row < rows; row += row_stride) {
    const int64_t at = row * columns + column;
    store_elements(k.y.data + at, plus(load_elements<width>(k.a.data + at), b));
  }
}

}  // namespace

template <class T> void add(Cuda where, const Add<T>& k) {
  constexpr int kSize = Pack<T>::kSize;
  const int64_t rows = k.y.dims[0], columns = k.y.dims[1];
  if (k.b.size() == k.y.size()) {
    const Flat f = flat(k.y.size(), k.a.data, k.b.data, k.y.data);
    launch(where, "add", flat_shape(f), add_arrays<T>, k, f);
  } else if (columns % kSize == 0 && aligned_16(k.a.data, k.b.data, k.y.data)) {
    launch(where, "add_row", matrix_shape(rows, columns, kSize), add_row<kSize, T>, k);
  } else {
    launch(where, "add_row", matrix_shape(rows, columns, 1), add_row<1, T>, k);
  }
}

#define INSTANTIATE(T) template void add(Cuda, const Add<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
