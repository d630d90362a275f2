/// Sums of columns over the rows of a matrix: each block of rows into sums of its own, then those in order, so that no result depends on threads.
#pragma once
#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// Calls work(row, sums) for every row. `sums` are those of the row's block, zeros at first: `outs` times as many as there are columns.
/// partial [blocks, outs, columns] has room for them; a block is one thread's.
template <class A, class F> LIBTRAIN_INLINE void for_row_blocks(int64_t rows, int64_t columns, int64_t blocks,
                                                                int64_t outs, A* partial, const F& work) {
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t block = 0; block < blocks; ++block) {
    A* sums = partial + block * outs * columns;
    for (int64_t c = 0; c < outs * columns; ++c) sums[c] = 0;
    for (int64_t row = rows * block / blocks; row < rows * (block + 1) / blocks; ++row) work(row, sums);
  }
}

/// out[c] = sum over blocks of partial[block][0][c], in order, of `outs` sums a block.
template <class A> void sum_blocks(const A* partial, int64_t blocks, int64_t outs, int64_t columns, Sink<A> out) {
  if (!out) return;
  for (int64_t c = 0; c < columns; ++c) {
    A sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += partial[b * outs * columns + c];
    put(out.data[c], sum, out.accumulate);
  }
}

}  // namespace
}  // namespace libtrain::kernels
