#include "kernels/gemm.h"

#include <omp.h>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/register_product.h"
#include "kernels/pointwise.h"

namespace libtrain::kernels {
namespace {

/// How many parts rows, columns and the sum are cut into; a thread works on one of each. Those of the sum are fixed by the shape, so that
/// the result does not depend on the number of threads, and so is all that BLAS does; our own loops give an element the same bits in
/// whatever rectangle it lies.
struct Pieces {
  int64_t rows, columns, sums = 1;

  int64_t count() const { return rows * columns * sums; }
};

/// Products up to here are done by the calling thread: waking a team costs more. BLAS libraries draw the same line.
constexpr int64_t kSerialProducts = 64 * 64 * 64;

/// Whether our own loops do products, rather than BLAS. They need fused multiply-add to be worth it.
constexpr bool kInRegisters = kIsa != Isa::kBaseline;

/// For our own loops: as many rectangles of each part of the sum as give every thread equally many, of 2048 to 524288 elements. Every
/// piece copies its columns and reads its rows, which is least for a square.
Pieces square_pieces(int64_t m, int64_t n, int64_t sums, int64_t threads) {
  const int64_t most = m * n / 2048, least = m * n / 524288;
  int64_t fair = threads;
  for (int64_t left = sums; left % 2 == 0 && fair % 2 == 0; left /= 2) fair /= 2;  // sums is a power of two
  const int64_t wanted = fair > least ? fair : (least + fair - 1) / fair * fair;
  const int64_t each = wanted < most ? wanted : most > 1 ? most : 1;
  Pieces best{1, each, sums};
  for (int64_t rows = 2; rows <= each; ++rows)
    if (each % rows == 0 && m * (each / rows) + n * rows < m * best.columns + n * best.rows)
      best = {rows, each / rows, sums};
  return best;
}

/// Parts of the sum where op(a) = a^T is copied as well: a piece of the sum copies nothing that another does, but its result is written,
/// and read again to be added up. Whatever moves fewest elements with eight threads.
int64_t parts_of_sum(int64_t m, int64_t n, int64_t k) {
  const auto moved = [=](int64_t sums) {
    const Pieces p = square_pieces(m, n, sums, 8);
    return k * (m * p.columns + n * p.rows) + 2 * m * n * (sums - 1);
  };
  int64_t best = 1;
  for (int64_t sums = 2; sums <= 8 && sums * kDepth <= k; sums *= 2)
    if (moved(sums) < moved(best)) best = sums;
  return best;
}

/// Border `index` of `count` within `size`, at a multiple of `unit` but for the last.
int64_t border(int64_t size, int64_t index, int64_t count, int64_t unit) {
  return index == count ? size : size / unit * index / count * unit;
}

/// For BLAS: about eight pieces, more when they would have over 256 rows. BLAS copies all of op(b)'s columns for each piece, which
/// costs 8 % of the time at 125 rows and 17 % at 62 (measured, n 512, k 128): below 64 rows, columns are split instead.
Pieces pieces_for_blas(int64_t m, int64_t n) {
  const int64_t eighth = (m + 7) / 8;
  const int64_t height = eighth < 64 ? 64 : eighth > 256 ? 256 : eighth;
  const int64_t rows = (m + height - 1) / height, wanted = (8 + rows - 1) / rows;
  const int64_t columns = n / 64 < wanted ? n / 64 : wanted;
  return {rows, columns < 1 ? 1 : columns};
}

template <class A, class Bias> Pieces pieces_of(const Product<A, Bias>& p) {
  if (p.m * p.n * p.k <= kSerialProducts) return {1, 1};
  if (!kInRegisters) return pieces_for_blas(p.m, p.n);
  return square_pieces(p.m, p.n, p.transpose_a ? parts_of_sum(p.m, p.n, p.k) : 1, omp_get_max_threads());
}

// BLAS is column-major: it sees our matrices transposed, so the operands change places: c^T = op(b)^T op(a)^T.
#define LIBTRAIN_BLAS(T, function)                                                                                     \
  void blas(char transpose_b, char transpose_a, int n, int m, int k, const T* b, int ldb, const T* a, int lda, T beta, \
            T* c, int ldc) {                                                                                           \
    const T one = 1;                                                                                                   \
    function(&transpose_b, &transpose_a, &n, &m, &k, &one, b, &ldb, a, &lda, &beta, c, &ldc);                          \
  }
LIBTRAIN_BLAS(float, sgemm_)
LIBTRAIN_BLAS(double, dgemm_)

/// Gives the piece of c the value that the product is added to: bias, zero, or what it had.
template <class A, class Bias> void start_piece(const Product<A, Bias>& p, const Piece& piece) {
  for (int64_t row = piece.row0; row < piece.row1; ++row) {
    A* c = p.c + row * p.n;
    for (int64_t column = piece.column0; column < piece.column1; ++column)
      c[column] = (p.accumulate ? c[column] : A(0)) + (p.bias ? A(p.bias[column]) : A(0));
  }
}

/// One piece of c, by one call of a BLAS that runs on the calling thread only.
template <class A, class Bias> void multiply_by_blas(const Product<A, Bias>& p, const Piece& piece) {
  const bool started = p.bias || p.k == 0;
  if (started) start_piece(p, piece);
  if (p.k == 0) return;
  const A* a = p.a + piece.row0 * (p.transpose_a ? 1 : p.lda);
  const A* b = p.b + piece.column0 * (p.transpose_b ? p.ldb : 1);
  blas(p.transpose_b ? 'T' : 'N', p.transpose_a ? 'T' : 'N', int(piece.column1 - piece.column0),
       int(piece.row1 - piece.row0), int(p.k), b, int(p.ldb), a, int(p.lda), A(started || p.accumulate ? 1 : 0),
       p.c + piece.row0 * p.n + piece.column0, int(p.n));
}

/// Product `index` of a batch that begins with `first`.
template <class A, class Bias>
Product<A, Bias> product_at(Product<A, Bias> first, const GemmBatch& batch, int64_t index) {
  first.a += index * batch.a;
  first.b += index * batch.b;
  first.c += index * batch.c;
  return first;
}

/// Part `index` of so many of the sum: the first goes to c, the others to matrices like it, one behind the other.
template <class A, class Bias>
Product<A, Bias> part_of_sum(Product<A, Bias> p, int64_t index, int64_t count, A* others) {
  const int64_t first = border(p.k, index, count, 8), end = border(p.k, index + 1, count, 8);
  p.a += first * (p.transpose_a ? p.lda : 1);
  p.b += first * (p.transpose_b ? 1 : p.ldb);
  p.behind = p.k - end;
  p.k = end - first;
  if (index == 0) return p;
  p.c = others + (index - 1) * p.m * p.n;
  p.bias = nullptr;
  p.accumulate = false;
  return p;
}

/// Adds matrices of `size` elements, one behind the other, to c in order.
template <class A> void add_matrices(const A* matrices, int64_t count, int64_t size, A* c) {
  constexpr int64_t kChunk = 1024;
#pragma omp parallel for schedule(static) firstprivate(matrices, c) if (size > kTeamElements)
  for (int64_t first = 0; first < size; first += kChunk) {
    const int64_t end = first + kChunk < size ? first + kChunk : size;
    for (int64_t j = 0; j < count; ++j)
#pragma omp simd
      for (int64_t i = first; i < end; ++i) c[i] += matrices[j * size + i];
  }
}

/// Pieces of all c, shared out among our own team. A BLAS built on OpenMP does not open a second team inside it.
/// `parts`: [batch.count, pieces.sums - 1, m, n].
template <class A, class Bias> void multiply(const Product<A, Bias>& first, const GemmBatch& batch, A* parts) {
  const int64_t m = first.m, n = first.n;
  if (m == 0 || n == 0) return;
  const Pieces pieces = pieces_of(first);
  const int64_t each = pieces.count(), others = (pieces.sums - 1) * m * n;
  const int64_t rows = kInRegisters ? kRows : 1, columns = kInRegisters ? kPanel<A> : 1;
  const bool team = each > 1 || (batch.count > 1 && batch.count * m * n * first.k > kSerialProducts);
#pragma omp parallel for schedule(static) if (team)
  for (int64_t i = 0; i < each * batch.count; ++i) {
    const int64_t index = i / each, column = i % pieces.columns, row = i / pieces.columns % pieces.rows;
    const int64_t sum = i % each / (pieces.rows * pieces.columns);
    const Product<A, Bias> p = part_of_sum(product_at(first, batch, index), sum, pieces.sums, parts + index * others);
    const Piece piece{border(m, row, pieces.rows, rows), border(m, row + 1, pieces.rows, rows),
                      border(n, column, pieces.columns, columns), border(n, column + 1, pieces.columns, columns)};
    kInRegisters ? multiply_in_registers(p, piece) : multiply_by_blas(p, piece);
  }
  for (int64_t index = 0; index < batch.count && pieces.sums > 1; ++index)
    add_matrices(parts + index * others, pieces.sums - 1, m * n, first.c + index * batch.c);
}

/// The same shape as `g`, for operands and result in the arithmetic type.
template <class A, class In, class Out>
Product<A, In> product_of(const Gemm<In, Out>& g, const A* a, const A* b, A* c, bool accumulate) {
  return {a,     b, g.a.dims[1], g.b.dims[1], g.transpose_a, g.transpose_b, g.bias.data, c, accumulate, g.m(), g.n(),
          g.k(), 0};
}

/// Matrices of `size` elements, `stride` apart in memory, whose copies stand one behind the other.
struct Stack {
  int64_t count, size, stride;

  /// The same elements in as few matrices as possible: no stride, one matrix; no gaps, one large one.
  Stack(int64_t of_batch, int64_t elements, int64_t apart)
      : count(apart == 0 || apart == elements ? 1 : of_batch),
        size(apart == elements ? of_batch * elements : elements),
        stride(apart) {}
};

// The pointers are firstprivate in these loops: a shared one could change with any store, and clang would not vectorize.
void to_f32(const bf16* from, const Stack& matrices, float* to) {
  for (int64_t matrix = 0; matrix < matrices.count; ++matrix, from += matrices.stride, to += matrices.size)
#pragma omp parallel for simd schedule(static) firstprivate(from, to) if (matrices.size > kTeamElements)
    for (int64_t i = 0; i < matrices.size; ++i) to[i] = float(from[i]);
}

/// Adds or writes the products, rounding them once.
void to_bf16(const float* from, const Stack& matrices, Sink<bf16> to) {
  bf16* data = to.data;
  const bool accumulate = to.accumulate;
  for (int64_t matrix = 0; matrix < matrices.count; ++matrix, from += matrices.size, data += matrices.stride)
#pragma omp parallel for simd schedule(static) firstprivate(from, data, accumulate) if (matrices.size > kTeamElements)
    for (int64_t i = 0; i < matrices.size; ++i) put(data[i], from[i], accumulate);
}

template <class F, class A> void apply(A* c, const Stack& matrices) {
  for (int64_t matrix = 0; matrix < matrices.count; ++matrix, c += matrices.stride)
#pragma omp parallel for simd schedule(static) firstprivate(c) if (matrices.size > kTeamElements)
    for (int64_t i = 0; i < matrices.size; ++i) c[i] = F::template forward<CpuMath>(c[i]);
}

template <class A> void activate(GemmActivation activation, A* c, const Stack& matrices) {
  if (activation == GemmActivation::kRelu) apply<Relu>(c, matrices);
  if (activation == GemmActivation::kGeluTanh) apply<GeluTanh>(c, matrices);
}

template <class T> void run(const Gemm<T, T>& g) {
  multiply(product_of<T>(g, g.a.data, g.b.data, g.c.data, g.c.accumulate), g.batch, g.workspace.data);
  activate(g.activation, g.c.data, Stack(g.batch.count, g.m() * g.n(), g.batch.c));
}

/// Elements of what parts of the sum beyond the first give.
template <class In, class Out> int64_t elements_of_parts(const Gemm<In, Out>& g) {
  const Pieces pieces = pieces_of(product_of<accum_t<In>>(g, nullptr, nullptr, nullptr, false));
  return g.batch.count * (pieces.sums - 1) * g.m() * g.n();
}

/// What bf16 operands become: their f32 copies stand in the workspace one behind the other, then results that are to become bf16,
/// then parts of sums.
template <class Out> struct Converted {
  Stack a, b;
  int64_t results;

  explicit Converted(const Gemm<bf16, Out>& g)
      : a(g.batch.count, g.m() * g.k(), g.batch.a),
        b(g.batch.count, g.k() * g.n(), g.batch.b),
        results(std::is_same_v<Out, float> ? 0 : g.batch.count * g.m() * g.n()) {}

  int64_t elements() const { return a.count * a.size + b.count * b.size + results; }
};

template <class Out> void run_bf16(const Gemm<bf16, Out>& g) {
  const Converted<Out> copies(g);
  float *a = g.workspace.data, *b = a + copies.a.count * copies.a.size, *parts = a + copies.elements();
  float* c = parts - copies.results;
  to_f32(g.a.data, copies.a, a);
  to_f32(g.b.data, copies.b, b);
  const int64_t mn = g.m() * g.n();
  GemmBatch batch{g.batch.count, g.batch.a ? g.m() * g.k() : 0, g.batch.b ? g.k() * g.n() : 0, g.batch.c};
  if constexpr (std::is_same_v<Out, float>) {
    multiply(product_of<float>(g, a, b, g.c.data, g.c.accumulate), batch, parts);
    activate(g.activation, g.c.data, Stack(g.batch.count, mn, g.batch.c));
  } else {
    batch.c = mn;
    multiply(product_of<float>(g, a, b, c, false), batch, parts);
    activate(g.activation, c, Stack(g.batch.count, mn, mn));
    to_bf16(c, Stack(g.batch.count, mn, g.batch.c), g.c);
  }
}
void run(const Gemm<bf16, bf16>& g) { run_bf16(g); }
void run(const Gemm<bf16, float>& g) { run_bf16(g); }

}  // namespace

template <Isa isa, class In, class Out> int64_t gemm_workspace(Cpu<isa>, const Gemm<In, Out>& g) {
  if constexpr (std::is_same_v<In, bf16>) return Converted<Out>(g).elements() + elements_of_parts(g);
  return elements_of_parts(g);
}

template <Isa isa, class In, class Out> void gemm(Cpu<isa>, const Gemm<In, Out>& g) { run(g); }

#define LIBTRAIN_GEMM(In, Out)                                      \
  template int64_t gemm_workspace(Cpu<kIsa>, const Gemm<In, Out>&); \
  template void gemm(Cpu<kIsa>, const Gemm<In, Out>&);
LIBTRAIN_GEMM(float, float)
LIBTRAIN_GEMM(double, double)
LIBTRAIN_GEMM(bf16, bf16)
LIBTRAIN_GEMM(bf16, float)

}  // namespace libtrain::kernels
