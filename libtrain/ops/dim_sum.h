/// Not an operation: one dimension of a tensor among the others, and sums over it.
#pragma once
#include <vector>

#include "kernels/dim_sum.h"
#include "libtrain/tape.h"

namespace libtrain::detail {

/// A tensor seen as [outer, count, inner], and the shape that is left without the middle.
struct MiddleDim {
  int64_t outer = 1, count = 1, inner = 1;
  Shape others;
};

/// Dimension `dim` of x, negative ones counted from the end. Throws InvalidArgument naming `op` when x does not have it.
inline MiddleDim middle_dim(const char* op, const Tensor& x, int dim) {
  LIBTRAIN_CHECK(x.defined(), "[{}] expected a tensor, got undefined; assign one to it first", op);
  LIBTRAIN_CHECK(dim >= -x.rank() && dim < x.rank(),
                 "[{}] expected one of the {} dimensions of {}, got {}; they count from 0, or back from -1", op,
                 x.rank(), x.spec(), dim);
  const int at = dim < 0 ? dim + x.rank() : dim;
  MiddleDim middle{.count = x.dim(at), .others = {}};
  std::vector<int64_t> others;
  for (int d = 0; d < x.rank(); ++d) {
    if (d == at) continue;
    (d < at ? middle.outer : middle.inner) *= x.dim(d);
    others.push_back(x.dim(d));
  }
  middle.others = Shape(std::span<const int64_t>(others));
  return middle;
}

/// y (+)= scale * the sums of x [dims] over the middle one.
template <class From, class To>
void run_dim_sum(Device where, const From* x, const MiddleDim& dims, double scale, Sink<To> y) {
  on(where, [&](auto device) {
    using A = accum_t<From>;
    Tensor workspace;
    View<A> view;
    if (const int64_t size = kernels::dim_sum_workspace(device, dims.outer, dims.count, dims.inner)) {
      workspace = Tensor({size}, dtype_of<A>, where);
      view = workspace.view<A>();
    }
    const View<const From> all{x, {dims.outer, dims.count, dims.inner, 1}};
    kernels::dim_sum(device, kernels::DimSum<From, To>{all, scale, y, view});
  });
}

}  // namespace libtrain::detail
