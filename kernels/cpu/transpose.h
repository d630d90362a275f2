/// Transposes in registers: element by element they would take as long as the products they serve.
#pragma once
#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// to[n, m] = the transpose of from[m, n], with from_row and to_row elements between rows; m and n are multiples of 4.
template <class A> void transpose(const A* from, int64_t from_row, int64_t m, int64_t n, A* to, int64_t to_row) {
  typedef A Quad __attribute__((vector_size(4 * sizeof(A)), aligned(alignof(A))));
  for (int64_t i = 0; i < m; i += 4)
    for (int64_t j = 0; j < n; j += 4) {
      const A* x = from + i * from_row + j;
      A* y = to + j * to_row + i;
      const Quad a = *(const Quad*)x, b = *(const Quad*)(x + from_row), c = *(const Quad*)(x + 2 * from_row),
                 d = *(const Quad*)(x + 3 * from_row);
      const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5),
                 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      *(Quad*)y = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
      *(Quad*)(y + to_row) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
      *(Quad*)(y + 2 * to_row) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
      *(Quad*)(y + 3 * to_row) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    }
}

}  // namespace
}  // namespace libtrain::kernels
