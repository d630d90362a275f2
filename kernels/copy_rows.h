/// Rows of one matrix picked into another: y[r] = x[source(r)], or zero where source(r) is no row of x.
/// Both directions are this copy: backward of a slice is source(r) = r - offset, backward of distinct picks is the
/// inverse index.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

template <class T> struct CopyRows {
  View<const T> x;            // [x rows, columns]
  View<const int32_t> index;  // source(r), one for each row of y; not given: source(r) = r - offset
  int64_t offset;
  Sink<T> y;  // [y_rows, columns]
  int64_t y_rows;
};

/// inverse[s] = the r with index[r] == s, or -1 if there is none. Entries of `index` that are not negative are
/// distinct.
struct InvertIndex {
  View<const int32_t> index;
  View<int32_t> inverse;  // [x rows]
};

template <Isa isa, class T> void copy_rows(Cpu<isa>, const CopyRows<T>&);
template <class T> void copy_rows(Cuda, const CopyRows<T>&);

template <Isa isa> void invert_index(Cpu<isa>, const InvertIndex&);
void invert_index(Cuda, const InvertIndex&);

}  // namespace libtrain::kernels
