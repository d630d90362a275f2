#include "kernels/column_sum.h"

#include "kernels/cpu/row_blocks.h"

namespace libtrain::kernels {

template <Isa isa, class T> void column_sum(Cpu<isa> device, const ColumnSum<T>& k) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int64_t blocks = column_sum_blocks(device, rows, columns);
  for_row_blocks(rows, columns, blocks, 1, k.workspace.data, [&](int64_t row, A* sums) {
    const T* x = k.x.data + row * columns;
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) sums[c] += A(x[c]);
  });
  sum_blocks(k.workspace.data, blocks, 1, columns, k.out);
}

#define INSTANTIATE(T) template void column_sum(Cpu<kIsa>, const ColumnSum<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
