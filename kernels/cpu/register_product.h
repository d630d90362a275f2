/// One thread's part of a matrix product: c (+)= op(a) op(b) + bias.
///
/// A tile of c, kRows x 2 vectors, stays in registers while the sum runs over k. The columns of op(b) that it meets are
/// copied side by side into panels, kDepth of their elements at a time; then blocks of rows of op(a) pass all of them from
/// the second cache. op(a) is read in place, an element at a time, which a register full of c hides, unless its rows push
/// each other out of the cache there: such a block is copied.
/// With AVX2 a tile is a fifth as large as with AVX-512, so that the rows and columns that it meets come around five times as
/// often. Blocks are lower there, a share of the next one is asked for with every tile, so that it has come from memory by then,
/// and where op(a) = a^T, whose columns would be read a few elements a cache line, they are copied as well, into strips of kRows.
/// Numerics: every element of a part of c is the sum of its products in order of k, in stretches of kDepth that are added up
/// in order. It does not depend on the tile or the rectangle in which the element lies.
/// Source: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (3), 2008.
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
  int64_t behind;  // elements of a longer sum that follow on k: a thread is likely to go on there
};

/// A rectangle of c.
struct Piece {
  int64_t row0, row1, column0, column1;
};

constexpr int64_t kVectorBytes = kIsa == Isa::kAvx512 ? 64 : kIsa == Isa::kAvx2 ? 32 : 16;
constexpr bool kSmallTiles = kIsa != Isa::kAvx512;  // memory is asked ahead, a^T is copied
constexpr int kRows = kSmallTiles ? 6 : 14;         // of a tile; its vectors, one of b each and one of a fill the file
constexpr int64_t kDepth = 256;                     // of a panel
constexpr int64_t kAhead = 12;                      // rows of a and b that are asked for before they are needed
constexpr int64_t kGroup = 512 / kVectorBytes;      // panels that are copied before rows pass by: at most 256 KiB
/// Rows of op(a) = a that lie a multiple of so many bytes apart push each other out of the cache. Measured at k 1024 and 2048
/// (docs/performance.md).
constexpr int64_t kCrowdedBytes = kSmallTiles ? 8192 : 4096;
constexpr int64_t kPad = 16;                    // elements between copies, lest all begin in one set of the cache
constexpr int kUnrolled = kSmallTiles ? 4 : 1;  // elements of the sum
template <class A> constexpr int64_t kLanesOf = kVectorBytes / int64_t(sizeof(A));
template <class A> constexpr int64_t kPanel = 2 * kLanesOf<A>;                              // columns of a panel
template <class A> constexpr int64_t kBlockRows = 192 / int64_t(sizeof(A)) / kRows* kRows;  // of kDepth: at most 48 KiB
template <class A> constexpr int64_t kRowsInPlace = (kSmallTiles ? 1 : 5) * kBlockRows<A>;
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

/// A tile of whole vectors that all exist.
template <int rows, int vectors, class A, class Bias>
LIBTRAIN_INLINE void store_whole(const Target<A, Bias>& to, Vector<A> (&sum)[rows][vectors]) {
  const auto place = [&](int i, int v) { return (Vector<A>*)(to.c + i * to.ldc + v * kLanesOf<A>); };
  if constexpr (std::is_same_v<A, Bias>)
    if (to.bias)
#pragma GCC unroll 14
      for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[i][v] += *(const Vector<A>*)(to.bias + v * kLanesOf<A>);
  if (to.add)
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[i][v] = *place(i, v) + sum[i][v];
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) *place(i, v) = sum[i][v];
}

/// Asks for the rows of a tile, to be written when its sum is done: from farther away than the second cache, stores would
/// have them arrive one after another. Where a row begins within a line of the cache, the tile to its left has asked for that.
template <int rows, class A, class Bias> LIBTRAIN_INLINE void expect_rows(const Target<A, Bias>& to) {
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) __builtin_prefetch(to.c + i * to.ldc + to.columns - 1, 1);
}

/// What is read after the rows in work, and a tile's share of it: from `data` on, every `step` elements up to `end`, as many lines as
/// lie `apart` elements apart. The tile below has the share that begins `next` elements on.
template <class A> struct Ahead {
  const A* data;
  int64_t end, step, apart, next;
};

/// Rows of op(a) that tiles one below the other meet: element (i, l) of op(a) is data[l * lda + i] if they lie across, else
/// data[i * lda + l]; those of the next tile begin `next` elements on.
template <class A> struct Rows {
  const A* data;
  int64_t lda, next;
  Ahead<A> ahead;
};

/// Asks for a share: a line of each of so many rows, or of a^T so many lines of a row. The processor does not see coming what is read
/// several rows at a time, or a short stretch of each.
template <int lines, class A> LIBTRAIN_INLINE void expect_share(const Ahead<A>& ahead) {
  for (int64_t at = 0; at < ahead.end; at += ahead.step)
#pragma GCC unroll 14
    for (int i = 0; i < lines; ++i) __builtin_prefetch(ahead.data + at + i * ahead.apart, 0, 2);
}

/// `count` tiles of `rows` x `vectors`, one below the other, over a stretch of k; b is a panel [k, kPanel], `to` the first of them.
/// Between two sums there is as little as can be: what else waits to retire keeps the next tile's products out of the processor.
/// Not inlined: GCC needs minutes for a function with several of these in it.
template <int rows, int vectors, bool across, class A, class Bias>
[[gnu::noinline]] void column_of_tiles(Rows<A> a, const A* b, int64_t k, Target<A, Bias> to, int64_t count) {
  const int64_t row = across ? 1 : a.lda, step = across ? a.lda : 1;
  for (; count > 0; --count, a.data += a.next, a.ahead.data += a.ahead.next, to.c += rows * to.ldc) {
    Vector<A> sum[rows][vectors] = {};
    if constexpr (kSmallTiles) expect_rows<rows>(to);
    if constexpr (kSmallTiles) expect_share<across ? kBlockRows<A> / kLine<A> : rows>(a.ahead);
    const A *left = a.data, *panel = b;
#pragma GCC unroll kUnrolled
    for (int64_t l = 0; l < k; ++l, left += step, panel += kPanel<A>) {
      if constexpr (across && !kSmallTiles) {
        __builtin_prefetch(left + kAhead * step);
        __builtin_prefetch(left + kAhead * step + rows);
      }
      Vector<A> right[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) right[v] = *(const Vector<A>*)(panel + v * kLanesOf<A>);
#pragma GCC unroll 14
      for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[i][v] += left[i * row] * right[v];
    }
    if (to.columns == vectors * kLanesOf<A> && (std::is_same_v<A, Bias> || !to.bias)) {
      store_whole(to, sum);
      continue;
    }
    A values[rows * kPanel<A>];
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) *(Vector<A>*)(values + i * kPanel<A> + v * kLanesOf<A>) = sum[i][v];
    store_part(to, rows, values);
  }
}

/// Panels [k, kPanel] one behind the other, copied or to be copied: columns [column, column + columns) of c, and of the sum the
/// stretch [depth, depth + k).
template <class A> struct Panels {
  A* data;
  int64_t column, columns, depth, k;
};

/// Elements from one panel to the next, and from one strip [k, kRows] to the next.
template <class A> constexpr int64_t panel_size(int64_t k) { return k * kPanel<A> + kPad; }
constexpr int64_t strip_size(int64_t k) { return k * kRows + kPad; }

/// Copies so many elements, by whole vectors: memcpy would take them in halves.
template <int64_t count, class A> LIBTRAIN_INLINE void copy_vectors(A* to, const A* from) {
  static_assert(count % kLanesOf<A> == 0);
#pragma GCC unroll 8
  for (int64_t x = 0; x < count; x += kLanesOf<A>) *(Vector<A>*)(to + x) = *(const Vector<A>*)(from + x);
}

/// Calls work for each panel.
template <class A, class F> void for_each_panel(Panels<A> group, const F& work) {
  for (int64_t left = group.columns; left > 0; left -= kPanel<A>) {
    group.columns = left < kPanel<A> ? left : kPanel<A>;
    work(group);
    group.column += kPanel<A>;
    group.data += panel_size<A>(group.k);
  }
}

/// Copies rows of op(b) = b; columns that are missing become zero.
template <class A, class Bias> void copy_rows(const Product<A, Bias>& p, const Panels<A>& group) {
  const A* b = p.b + group.depth * p.ldb + group.column;
  const int64_t left = group.columns % kPanel<A>, whole = group.columns - left;
  for (int64_t l = 0; l < group.k; ++l, b += p.ldb) {
    A* to = group.data + l * kPanel<A>;
    for (int64_t x = 0; x < whole; x += kPanel<A>, to += panel_size<A>(group.k)) {
      __builtin_prefetch(b + kAhead * p.ldb + x);
      __builtin_prefetch(b + kAhead * p.ldb + x + kLanesOf<A>);
      copy_vectors<kPanel<A>>(to, b + x);
    }
    if (left == 0) continue;
    std::memset(to, 0, size_t(kPanel<A>) * sizeof(A));
    std::memcpy(to, b + whole, size_t(left) * sizeof(A));
  }
}

/// Copies columns of op(b) = b^T into one panel; those that are missing become zero.
template <class A, class Bias> void copy_columns(const Product<A, Bias>& p, const Panels<A>& panel) {
  const int64_t k = panel.k, whole_k = k / 4 * 4, whole_columns = panel.columns / 4 * 4;
  if (panel.columns < kPanel<A>) std::memset(panel.data, 0, size_t(k * kPanel<A>) * sizeof(A));
  const A* b = p.b + panel.column * p.ldb + panel.depth;
  transpose(b, p.ldb, whole_columns, whole_k, panel.data, kPanel<A>);
  for (int64_t x = 0; x < panel.columns; ++x)
    for (int64_t l = x < whole_columns ? whole_k : 0; l < k; ++l) panel.data[l * kPanel<A> + x] = b[x * p.ldb + l];
}

template <class A, class Bias> void copy_panels(const Product<A, Bias>& p, const Panels<A>& group) {
  if (p.transpose_b)
    for_each_panel(group, [&](const Panels<A>& panel) { copy_columns(p, panel); });
  else
    copy_rows(p, group);
}

/// Rows [row, end) of op(a) over a stretch of the sum, in place or copied.
template <class A> struct Block {
  const A* a;
  int64_t lda, row, end;
  Ahead<A> ahead;
};

/// Copies columns [row, end) of a into strips, eight elements at a time: the next line overwrites what a strip has no place for.
template <class A, class Bias>
void copy_strips(const Product<A, Bias>& p, const Panels<A>& group, int64_t row, int64_t end, A* strips) {
  const A* a = p.a + group.depth * p.lda;
  for (int64_t l = 0; l < group.k; ++l, a += p.lda) {
    for (int64_t i = row; i < end; i += kLine<A>) __builtin_prefetch(a + kAhead * p.lda + i);
    A* to = strips + l * kRows;
    int64_t i = row;
    for (; i + 8 <= end; i += kRows, to += strip_size(group.k)) copy_vectors<8>(to, a + i);
    for (; i < end; i += kRows, to += strip_size(group.k))
      std::memcpy(to, a + i, size_t(end - i < kRows ? end - i : kRows) * sizeof(A));
  }
}

/// Whether rows of a lie so many bytes apart that they push each other out of the cache.
template <class A, class Bias> bool crowded(const Product<A, Bias>& p) {
  return p.k > 0 && p.lda * int64_t(sizeof(A)) % kCrowdedBytes == 0;
}

/// Whether tiles read op(a) where it lies.
template <class A, class Bias> bool in_place(const Product<A, Bias>& p) {
  return p.transpose_a ? !kSmallTiles : !crowded(p);
}

/// Copies rows [row, end) of a, less far apart.
template <class A, class Bias>
void copy_block(const Product<A, Bias>& p, const Panels<A>& group, int64_t row, int64_t end, A* to) {
  const A* a = p.a + row * p.lda + group.depth;
  for (; row < end; ++row, a += p.lda, to += group.k + kPad) std::memcpy(to, a, size_t(group.k) * sizeof(A));
}

/// As many tiles of `rows` rows from `row` on as fit into the block; → the first row that is left.
template <int rows, bool across, class A, class Bias>
int64_t tiles(const Product<A, Bias>& p, const Panels<A>& panel, const Block<A>& block, int64_t row) {
  const int64_t count = (block.end - row) / rows, i = row - block.row;
  if (count <= 0) return row;
  const bool first = panel.depth == 0, strips = across && kSmallTiles;
  const int64_t begin = !across ? i * block.lda : strips ? i / kRows * strip_size(panel.k) + i % kRows : i;
  const int64_t next = !across ? rows * block.lda : strips && rows == kRows ? strip_size(panel.k) : rows;
  Rows<A> a{block.a + begin, block.lda, next, block.ahead};
  a.ahead.data += i / kRows * a.ahead.next;
  const Target<A, Bias> to{p.c + row * p.n + panel.column, p.n, first && p.bias ? p.bias + panel.column : nullptr,
                           !first || p.accumulate, panel.columns};
  if (panel.columns > kLanesOf<A>)
    column_of_tiles<rows, 2, across>(a, panel.data, panel.k, to, count);
  else
    column_of_tiles<rows, 1, across>(a, panel.data, panel.k, to, count);
  return row + count * rows;
}

/// All rows of a block, in tiles as high as there are rows for.
template <bool across, class A, class Bias>
void all_tiles(const Product<A, Bias>& p, const Panels<A>& panel, const Block<A>& block) {
  int64_t row = tiles<kRows, across>(p, panel, block, block.row);
  row = tiles<kRows / 2, across>(p, panel, block, row);
  row = tiles<kRows / 4 + 1, across>(p, panel, block, row);
  row = tiles<2, across>(p, panel, block, row);
  tiles<1, across>(p, panel, block, row);
}

/// Where op(a) has an element.
template <class A, class Bias> const A* element(const Product<A, Bias>& p, int64_t row, int64_t depth) {
  return p.a + (p.transpose_a ? depth * p.lda + row : row * p.lda + depth);
}

/// The share of the first tile of a panel in the block of rows that begins with `data`, where so many panels and kBlockRows / kRows tiles
/// of each share it; none if null.
template <class A, class Bias>
Ahead<A> share_of(const A* data, const Product<A, Bias>& p, int64_t k, int64_t panel, int64_t panels) {
  if (!kSmallTiles || !data) return {};
  if (p.transpose_a) {
    constexpr int64_t tiles = kBlockRows<A> / kRows;
    const int64_t rows = (k + panels * tiles - 1) / (panels * tiles), next = rows * p.lda;
    return {data + panel * tiles * next, next, p.lda, kLine<A>, next};
  }
  const int64_t each = (k + panels * kLine<A> - 1) / (panels * kLine<A>)*kLine<A>, first = panel * each,
                left = k - first;
  return {data + first, left < each ? left : each, kLine<A>, p.lda, kRows * p.lda};
}

/// A block of rows of op(a) where tiles read it: in place, or as a copy in `scratch`.
template <class A, class Bias>
Block<A> block_of(const Product<A, Bias>& p, const Panels<A>& group, int64_t row, int64_t end, A* scratch) {
  if (in_place(p)) return {element(p, row, group.depth), p.lda, row, end, {}};
  if constexpr (kSmallTiles)
    if (p.transpose_a) {
      copy_strips(p, group, row, end, scratch);
      return {scratch, kRows, row, end, {}};
    }
  copy_block(p, group, row, end, scratch);
  return {scratch, group.k + kPad, row, end, {}};
}

/// How many rows a block has, of `rows`: as many as find room in the second cache beside the panels, or in the scratch memory.
template <class A, class Bias> int64_t block_height(const Product<A, Bias>& p, const Panels<A>& group, int64_t rows) {
  if (!in_place(p)) return kBlockRows<A>;
  return group.k == 0 ? rows : kRowsInPlace<A> * kDepth / group.k / kRows * kRows;
}

/// All rows of a piece past a group of panels. The first of them are read next where the sum is at `next_depth`, unless nothing is there.
template <class A, class Bias> void multiply_group(const Product<A, Bias>& p, const Piece& piece,
                                                   const Panels<A>& group, int64_t next_depth, A* scratch) {
  const int64_t high = block_height(p, group, piece.row1 - piece.row0);
  const int64_t panels = (group.columns + kPanel<A> - 1) / kPanel<A>;
  for (int64_t row = piece.row0; row < piece.row1; row += high) {
    const int64_t end = row + high < piece.row1 ? row + high : piece.row1;
    const A* next = end < piece.row1              ? element(p, end, group.depth)
                    : next_depth < p.k + p.behind ? element(p, piece.row0, next_depth)
                                                  : nullptr;
    Block<A> block = block_of(p, group, row, end, scratch);
    for_each_panel(group, [&](const Panels<A>& panel) {
      block.ahead = share_of(next, p, group.k, (panel.column - group.column) / kPanel<A>, panels);
      p.transpose_a ? all_tiles<true>(p, panel, block) : all_tiles<false>(p, panel, block);
    });
  }
}

/// One piece of c, by the calling thread alone, which needs 320 KiB of stack for it.
template <class A, class Bias> void multiply_in_registers(const Product<A, Bias>& p, const Piece& piece) {
  alignas(64) A panels[kGroup * panel_size<A>(kDepth)];
  alignas(64) A scratch[kBlockRows<A> * (kDepth + kPad)];
  constexpr int64_t kColumns = kGroup * kPanel<A>;
  int64_t depth = 0;
  do {
    const int64_t k = p.k - depth < kDepth ? p.k - depth : kDepth;
    for (int64_t column = piece.column0; column < piece.column1; column += kColumns) {
      const int64_t left = piece.column1 - column;
      const Panels<A> group{panels, column, left < kColumns ? left : kColumns, depth, k};
      copy_panels(p, group);
      multiply_group(p, piece, group, left > kColumns ? depth : depth + k, scratch);
    }
    depth += k;
  } while (depth < p.k);
}

}  // namespace
}  // namespace libtrain::kernels
