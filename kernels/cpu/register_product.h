/// One thread's part of a matrix product: c (+)= op(a) op(b) + bias.
///
/// A tile of c, kRows x 2 vectors, stays in registers while the sum runs over k. The columns of op(b) that it meets are
/// copied side by side, kDepth of them at a time, and stay in the nearest caches while all rows of op(a) pass by; op(a)
/// is read in place, an element at a time, which a register full of c hides.
/// Numerics: every element of c is the sum of its products in order of k, in stretches of kDepth that are added up in
/// order. It does not depend on the tile or the piece in which the element lies.
/// Source: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (3), 2008, but for the
/// copy of op(a): BLAS libraries make one as well, worth it for large matrices only.
/// Measured: docs/performance.md.
#pragma once
#include <cstring>

#include "kernels/cpu/common.h"
#include "kernels/cpu/transpose.h"

namespace libtrain::kernels {
namespace {

/// A product in the arithmetic type A, row-major. `a` and `b` are stored with lda and ldb elements a row, c with n.
template <class A, class Bias> struct Product {
  const A *a, *b;
  int64_t lda, ldb;
  bool transpose_a, transpose_b;
  const Bias* bias;  // [n], or null
  A* c;
  bool accumulate;
  int64_t m, n, k;
};

/// A rectangle of c.
struct Piece {
  int64_t row0, row1, column0, column1;
};

constexpr int64_t kVectorBytes = kIsa == Isa::kAvx512 ? 64 : kIsa == Isa::kAvx2 ? 32 : 16;
constexpr int kRows =
    kIsa == Isa::kAvx512 ? 14 : 6;  // of a tile; its vectors, one of b each and one of a fill the file
constexpr int64_t kDepth = 256;     // of a panel
constexpr int64_t kAhead = 12;      // rows of a and b that are asked for before they are needed
template <class A> constexpr int64_t kLanesOf = kVectorBytes / int64_t(sizeof(A));
template <class A> constexpr int64_t kPanel = 2 * kLanesOf<A>;  // columns of a panel
template <class A> struct VectorOf {
  typedef A type __attribute__((vector_size(kVectorBytes), aligned(alignof(A)), may_alias));
};
template <class A> using Vector = typename VectorOf<A>::type;

/// Where a tile lies in c, and what happens to it there.
template <class A, class Bias> struct Target {
  A* c;
  int64_t ldc;
  const Bias* bias;  // of its first column, or null
  bool add;          // to what is there
  int64_t columns;   // that exist
};

/// A tile [rows, kPanel] at the edge of c, of which to.columns columns exist. A call of its own: unrolled for every shape of tile, it
/// would take the compiler minutes.
template <class A, class Bias>
[[gnu::noinline]] void store_part(const Target<A, Bias>& to, int64_t rows, const A* sum) {
  for (int64_t i = 0; i < rows; ++i, sum += kPanel<A>) {
    A* c = to.c + i * to.ldc;
    for (int64_t x = 0; x < to.columns; ++x)
      c[x] = (to.add ? c[x] : A(0)) + (sum[x] + (to.bias ? A(to.bias[x]) : A(0)));
  }
}

/// A whole vector of a row.
template <class A, class Bias>
LIBTRAIN_INLINE void store_vector(const Target<A, Bias>& to, int64_t row, int64_t column, Vector<A> sum) {
  Vector<A>* c = (Vector<A>*)(to.c + row * to.ldc + column);
  if constexpr (std::is_same_v<A, Bias>)
    if (to.bias) sum += *(const Vector<A>*)(to.bias + column);
  *c = to.add ? *c + sum : sum;
}

/// `rows` x `vectors` of c over a stretch of k. Element (i, l) of op(a) is a[l * lda + i] if `across`, else a[i * lda + l];
/// b is a panel [k, kPanel]. Not inlined: GCC needs minutes for a function with several of these in it.
template <int rows, int vectors, bool across, class A, class Bias>
[[gnu::noinline]] void tile(const A* a, int64_t lda, const A* b, int64_t k, const Target<A, Bias>& to) {
  const int64_t row = across ? 1 : lda, step = across ? lda : 1;
  Vector<A> sum[rows][vectors] = {};
  for (int64_t l = 0; l < k; ++l, a += step, b += kPanel<A>) {
    if constexpr (across) {
      __builtin_prefetch(a + kAhead * step);
      __builtin_prefetch(a + kAhead * step + rows);
    }
    Vector<A> right[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) right[v] = *(const Vector<A>*)(b + v * kLanesOf<A>);
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[i][v] += a[i * row] * right[v];
  }
  if (to.columns == vectors * kLanesOf<A> && (std::is_same_v<A, Bias> || !to.bias)) {
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) store_vector(to, i, v * kLanesOf<A>, sum[i][v]);
    return;
  }
  A values[rows * kPanel<A>];
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) *(Vector<A>*)(values + i * kPanel<A> + v * kLanesOf<A>) = sum[i][v];
  store_part(to, rows, values);
}

/// One row of a panel. Whole ones are told apart because their copy is two instructions.
template <class A> LIBTRAIN_INLINE void copy_row(const A* from, int64_t columns, A* to) {
  if (columns == kPanel<A>)
    std::memcpy(to, from, size_t(kPanel<A>) * sizeof(A));
  else
    std::memcpy(to, from, size_t(columns) * sizeof(A));
}

/// Copies rows [depth, depth + k) of op(b), `columns` wide from `column` on, into a panel; missing columns become zero.
template <class A, class Bias>
void copy_panel(const Product<A, Bias>& p, int64_t depth, int64_t k, int64_t column, int64_t columns, A* panel) {
  if (columns < kPanel<A>) std::memset(panel, 0, size_t(k * kPanel<A>) * sizeof(A));
  if (!p.transpose_b) {
    const A* b = p.b + depth * p.ldb + column;
    for (int64_t l = 0; l < k; ++l, b += p.ldb) {
      __builtin_prefetch(b + kAhead * p.ldb);
      __builtin_prefetch(b + kAhead * p.ldb + kLanesOf<A>);
      copy_row(b, columns, panel + l * kPanel<A>);
    }
    return;
  }
  const A* b = p.b + column * p.ldb + depth;
  const int64_t whole_k = k / 4 * 4, whole_columns = columns / 4 * 4;
  transpose(b, p.ldb, whole_columns, whole_k, panel, kPanel<A>);
  for (int64_t x = 0; x < columns; ++x)
    for (int64_t l = x < whole_columns ? whole_k : 0; l < k; ++l) panel[l * kPanel<A> + x] = b[x * p.ldb + l];
}

/// One panel of a piece: which columns of c, and which stretch of k.
template <class A> struct Panel {
  const A* data;
  int64_t column, columns, depth, k;
};

/// Tiles of `rows` rows from `row` on while they fit above `end`; → the first row that is left.
template <int rows, bool across, class A, class Bias>
int64_t tiles(const Product<A, Bias>& p, const Panel<A>& panel, int64_t row, int64_t end) {
  const bool first = panel.depth == 0;
  for (; row + rows <= end; row += rows) {
    const A* a = p.a + (across ? panel.depth * p.lda + row : row * p.lda + panel.depth);
    const Target<A, Bias> to{p.c + row * p.n + panel.column, p.n, first && p.bias ? p.bias + panel.column : nullptr,
                             !first || p.accumulate, panel.columns};
    if (panel.columns > kLanesOf<A>)
      tile<rows, 2, across>(a, p.lda, panel.data, panel.k, to);
    else
      tile<rows, 1, across>(a, p.lda, panel.data, panel.k, to);
  }
  return row;
}

/// All rows of a piece, in tiles as high as there are rows for.
template <bool across, class A, class Bias>
void all_tiles(const Product<A, Bias>& p, const Panel<A>& panel, int64_t row, int64_t end) {
  row = tiles<kRows, across>(p, panel, row, end);
  row = tiles<kRows / 2, across>(p, panel, row, end);
  row = tiles<kRows / 4 + 1, across>(p, panel, row, end);
  row = tiles<2, across>(p, panel, row, end);
  tiles<1, across>(p, panel, row, end);
}

/// One piece of c, by the calling thread alone.
template <class A, class Bias> void multiply_in_registers(const Product<A, Bias>& p, const Piece& piece) {
  alignas(64) A data[kDepth * kPanel<A>];
  int64_t depth = 0;
  do {
    const int64_t k = p.k - depth < kDepth ? p.k - depth : kDepth;
    for (int64_t column = piece.column0; column < piece.column1; column += kPanel<A>) {
      const int64_t left = piece.column1 - column, columns = left < kPanel<A> ? left : kPanel<A>;
      copy_panel(p, depth, k, column, columns, data);
      const Panel<A> panel{data, column, columns, depth, k};
      p.transpose_a ? all_tiles<true>(p, panel, piece.row0, piece.row1)
                    : all_tiles<false>(p, panel, piece.row0, piece.row1);
    }
    depth += k;
  } while (depth < p.k);
}

}  // namespace
}  // namespace libtrain::kernels
