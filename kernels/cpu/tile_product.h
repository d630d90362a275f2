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

}  // namespace
}  // namespace libtrain::kernels
