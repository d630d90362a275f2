/// Not an operation: what the operations that only move elements share.
#pragma once
#include "kernels/copy_strided.h"
#include "libtrain/tape.h"

namespace libtrain::detail {

/// One dimension of a block that lies in x and y with these strides.
struct StridedDim {
  int64_t size, x_stride, y_stride;
};

/// Dimension `dim` of a tensor of `rank` dimensions, counted from 0; negative ones count from the end.
inline int dim_index(const char* op, int dim, int rank) {
  LIBTRAIN_CHECK(dim >= -rank && dim < rank,
                 "[{}] dimension {} of a tensor that has {}; they count from 0, or back from -1", op, dim, rank);
  return dim < 0 ? dim + rank : dim;
}

/// y (+)= x over the block of `dims`, outermost of y first and y's innermost stride 1. Neighbours that are one dimension in both arrays are
/// merged, so that kernels see long runs.
template <class T> void run_copy_strided(Device where, const T* x, Sink<T> y, std::span<const StridedDim> dims) {
  kernels::CopyStrided<T> args{x, y, {1, 1, 1, 1}, {0, 0, 0, 1}, {0, 0, 0, 1}};
  size_t at = 3;  // of the dimension being merged into
  bool any = false;
  for (size_t d = dims.size(); d-- > 0;) {
    const StridedDim& dim = dims[d];
    if (dim.size == 1) continue;
    const bool follows = any && dim.x_stride == args.x_strides[at] * args.sizes[at] &&
                         dim.y_stride == args.y_strides[at] * args.sizes[at];
    if (follows) {
      args.sizes[at] *= dim.size;
      continue;
    }
    at -= any || dim.y_stride != 1;
    any = true;
    args.sizes[at] = dim.size;
    args.x_strides[at] = dim.x_stride;
    args.y_strides[at] = dim.y_stride;
  }
  on(where, [&](auto device) { kernels::copy_strided(device, args); });
}

}  // namespace libtrain::detail
