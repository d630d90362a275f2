/// Small matrices in scratch memory: what is too small for a BLAS call to pay.
#pragma once
#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

constexpr int64_t kTileColumns = 16;
constexpr int64_t kTileRows = kIsa == Isa::kAvx512 ? 8 : 4;  // accumulators that fit the vector registers

/// `size` rounded up to whole tiles.
constexpr int64_t tile_rows(int64_t size) { return (size + kTileRows - 1) / kTileRows * kTileRows; }

/// A matrix by its elements' distances: element (i, j) is data[i * row + j * column].
template <class A> struct Strided {
  const A* data;
  int64_t row, column;
};

/// c[m, n] (+)= a[m, k] b[k, n], with ldb and ldc elements between rows of b and c. m and n are whole tiles (multiples
/// of kTileRows and kTileColumns): a, b and c have that much memory, and what lies beyond the matrix proper ends up
/// beyond it.
template <class A>
void tile_product(int64_t m, int64_t n, int64_t k, Strided<A> a, const A* b, int64_t ldb, A* c, int64_t ldc, bool add) {
  for (int64_t i = 0; i < m; i += kTileRows)
    for (int64_t j = 0; j < n; j += kTileColumns) {
      A sum[kTileRows][kTileColumns] = {};
      for (int64_t l = 0; l < k; ++l) {
        const A* row = b + l * ldb + j;
        for (int64_t r = 0; r < kTileRows; ++r) {
          const A factor = a.data[(i + r) * a.row + l * a.column];
#pragma omp simd
          for (int64_t x = 0; x < kTileColumns; ++x) sum[r][x] += factor * row[x];
        }
      }
      for (int64_t r = 0; r < kTileRows; ++r)
#pragma omp simd
        for (int64_t x = 0; x < kTileColumns; ++x) {
          A& place = c[(i + r) * ldc + j + x];
          place = add ? place + sum[r][x] : sum[r][x];
        }
    }
}

/// to[n, m] = the transpose of from[m, n]; m and n are multiples of 4. In blocks of 4 x 4 that stay in registers:
/// element by element it would take as long as the products it serves.
template <class A> void transpose(const A* from, int64_t m, int64_t n, A* to) {
  typedef A Quad __attribute__((vector_size(4 * sizeof(A)), aligned(alignof(A))));
  for (int64_t i = 0; i < m; i += 4)
    for (int64_t j = 0; j < n; j += 4) {
      const A* x = from + i * n + j;
      A* y = to + j * m + i;
      const Quad a = *(const Quad*)x, b = *(const Quad*)(x + n), c = *(const Quad*)(x + 2 * n),
                 d = *(const Quad*)(x + 3 * n);
      const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5),
                 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      *(Quad*)y = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
      *(Quad*)(y + m) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
      *(Quad*)(y + 2 * m) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
      *(Quad*)(y + 3 * m) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    }
}

}  // namespace
}  // namespace libtrain::kernels
