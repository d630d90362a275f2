// Shapes    x [rows, columns]; out [columns].
// Mapping   Block: 32 packs of columns (where rows do not divide into packs, 32 columns) and a share of the rows, which its 8 warps walk
//           with the sums of their lanes' columns in registers. Warps are added up in order through shared memory, blocks by the last
//           one to finish (partials.cuh). Narrow matrices leave lanes idle.
// Traffic   Reads x; partial sums are at most column_sum_blocks() rows. Bound by memory.
// Numerics  Sums in f32 (f64 for f64) in an order that follows from the shape alone.
// Measured  docs/kernels.md.
#include "kernels/column_sum.h"

#include "kernels/cuda/partials.cuh"

namespace libtrain::kernels {
namespace {

/// The sums of the columns of x, `width` a lane.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    sum_rows(const T* x, int64_t rows, int64_t columns, Partials<accum_t<T>, 1> sums) {
  const auto [column, first_row, row_stride] = column_walk<width>();
  Elements<T, width> sum{};
  if (column < columns)
    for (int64_t row = first_row; row < rows; row += row_stride) {
      const auto add = load_elements<width>(x + row * columns + column);
#pragma unroll
      for (int j = 0; j < width; ++j) sum.at[j] += add.at[j];
    }
  add_up_columns(sum, columns, sums);
}

}  // namespace

template <class T> void column_sum(Cuda where, const ColumnSum<T>& k) {
  constexpr int kSize = Pack<T>::kSize;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1], blocks = column_sum_blocks(where, rows, columns);
  const bool packs = packs_fit(k.x.data, columns);
  launch(where, "column_sum", column_walk_shape(columns, packs ? kSize : 1, blocks),
         packs ? sum_rows<kSize, T> : sum_rows<1, T>, k.x.data, rows, columns,
         Partials<accum_t<T>, 1>{k.workspace.data, where.tickets, {k.out}});
}

#define INSTANTIATE(T) template void column_sum(Cuda, const ColumnSum<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
