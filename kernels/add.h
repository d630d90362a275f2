/// Elementwise sum of two matrices, or of a matrix and one row for all: y[r][c] = a[r][c] + b[r or 0][c].
/// Gradients need no kernel of their own: dy itself (kernels/scale.h), and for a single row b the sum over rows
/// (kernels/column_sum.h).
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct Add {
  View<const T> a;  // [rows, columns]
  View<const T> b;  // [rows, columns] or [1, columns]
  View<T> y;        // [rows, columns]
};

template <Isa isa, class T> void add(Cpu<isa>, const Add<T>&);
template <class T> void add(Cuda, const Add<T>&);

}  // namespace libtrain::kernels
