#include "kernels/column_sum.h"

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// partial[c] = sum over `rows` rows of x.
template <class T> void sum_rows(const T* x, int64_t rows, int64_t columns, accum_t<T>* partial) {
  using A = accum_t<T>;
  for (int64_t c = 0; c < columns; ++c) partial[c] = 0;
  for (int64_t row = 0; row < rows; ++row)
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) partial[c] += A(x[row * columns + c]);
}

}  // namespace

template <Isa isa, class T> void column_sum(Cpu<isa> device, const ColumnSum<T>& k) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int64_t blocks = column_sum_blocks(device, rows, columns);
#pragma omp parallel for schedule(static) if (rows * columns > kTeamElements)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = rows * block / blocks, end = rows * (block + 1) / blocks;
    sum_rows(k.x.data + begin * columns, end - begin, columns, k.workspace.data + block * columns);
  }
  for (int64_t c = 0; c < columns; ++c) {
    A sum = 0;
    for (int64_t block = 0; block < blocks; ++block) sum += k.workspace.data[block * columns + c];
    put(k.out.data[c], sum, k.out.accumulate);
  }
}

#define INSTANTIATE(T) template void column_sum(Cpu<kIsa>, const ColumnSum<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
