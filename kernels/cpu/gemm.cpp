#include "kernels/gemm.h"

#include "kernels/cpu/blas.h"
#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// A product in the arithmetic type A, row-major. `a` and `b` are stored with lda and ldb elements a row, c with n.
template <class A, class Bias> struct Product {
  const A *a, *b;
  int64_t lda, ldb;
  bool transpose_a, transpose_b;
  const Bias* bias;
  A* c;
  bool accumulate;
  int64_t m, n, k;
};

/// What each of our threads works on. Fixed by the shape, so that the result does not depend on the number of threads.
struct Pieces {
  int64_t rows, columns;
};

/// Products up to here are done by the calling thread: waking a team costs more. BLAS libraries draw the same line.
constexpr int64_t kSerialProducts = 64 * 64 * 64;

/// About eight pieces, more when they would have over 256 rows. BLAS copies all of op(b)'s columns for each piece, which
/// costs 8 % of the time at 125 rows and 17 % at 62 (measured, n 512, k 128): below 64 rows, columns are split instead.
Pieces pieces_of(int64_t m, int64_t n, int64_t k) {
  if (m * n * k <= kSerialProducts) return {1, 1};
  const int64_t eighth = (m + 7) / 8;
  const int64_t height = eighth < 64 ? 64 : eighth > 256 ? 256 : eighth;
  const int64_t rows = (m + height - 1) / height, wanted = (8 + rows - 1) / rows;
  const int64_t columns = n / 64 < wanted ? n / 64 : wanted;
  return {rows, columns < 1 ? 1 : columns};
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

/// Gives the block of c the value that the product is added to: bias, zero, or what it had.
template <class A, class Bias>
void start_block(const Product<A, Bias>& p, int64_t row0, int64_t row1, int64_t column0, int64_t column1) {
  for (int64_t row = row0; row < row1; ++row) {
    A* c = p.c + row * p.n;
#pragma omp simd
    for (int64_t column = column0; column < column1; ++column)
      c[column] = (p.accumulate ? c[column] : A(0)) + (p.bias ? A(p.bias[column]) : A(0));
  }
}

/// One block of c, by one call of a BLAS that runs on the calling thread only.
template <class A, class Bias>
void multiply_block(const Product<A, Bias>& p, int64_t row0, int64_t row1, int64_t column0, int64_t column1) {
  const bool started = p.bias || p.k == 0;
  if (started) start_block(p, row0, row1, column0, column1);
  if (p.k == 0) return;
  const A* a = p.a + row0 * (p.transpose_a ? 1 : p.lda);
  const A* b = p.b + column0 * (p.transpose_b ? p.ldb : 1);
  blas(p.transpose_b ? 'T' : 'N', p.transpose_a ? 'T' : 'N', int(column1 - column0), int(row1 - row0), int(p.k), b,
       int(p.ldb), a, int(p.lda), A(started || p.accumulate ? 1 : 0), p.c + row0 * p.n + column0, int(p.n));
}

/// Blocks of c, shared out among our own team. A BLAS built on OpenMP does not open a second team inside it.
template <class A, class Bias> void multiply(const Product<A, Bias>& p) {
  if (p.m == 0 || p.n == 0) return;
  const Pieces pieces = pieces_of(p.m, p.n, p.k);
  const int64_t count = pieces.rows * pieces.columns;
  if (count == 1 && p.m * p.n * p.k <= kSerialProducts) return multiply_block(p, 0, p.m, 0, p.n);
#pragma omp parallel for schedule(static)
  for (int64_t piece = 0; piece < count; ++piece) {
    const int64_t row = piece / pieces.columns, column = piece % pieces.columns;
    multiply_block(p, p.m * row / pieces.rows, p.m * (row + 1) / pieces.rows, p.n * column / pieces.columns,
                   p.n * (column + 1) / pieces.columns);
  }
}

/// The same shape as `g`, for operands and result in the arithmetic type.
template <class A, class In, class Out>
Product<A, In> product_of(const Gemm<In, Out>& g, const A* a, const A* b, A* c, bool accumulate) {
  return {a,           b, g.a.dims[1], g.b.dims[1], g.transpose_a, g.transpose_b,
          g.bias.data, c, accumulate,  g.m(),       g.n(),         g.k()};
}

void to_f32(View<const bf16> from, float* to) {
  const int64_t size = from.size();
#pragma omp parallel for simd schedule(static) if (size > kTeamElements)
  for (int64_t i = 0; i < size; ++i) to[i] = float(from.data[i]);
}

/// Adds or writes the product, rounding it once.
void to_bf16(const float* from, int64_t size, Sink<bf16> to) {
#pragma omp parallel for simd schedule(static) if (size > kTeamElements)
  for (int64_t i = 0; i < size; ++i) put(to.data[i], from[i], to.accumulate);
}

template <class T> void run(const Gemm<T, T>& g) {
  multiply(product_of<T>(g, g.a.data, g.b.data, g.c.data, g.c.accumulate));
}

/// bf16 operands: their f32 copies stand in the workspace one behind the other, then a result that is to become bf16.
template <class Out> void run_bf16(const Gemm<bf16, Out>& g) {
  float *a = g.workspace.data, *b = a + g.m() * g.k(), *c = b + g.k() * g.n();
  to_f32(g.a, a);
  to_f32(g.b, b);
  if constexpr (std::is_same_v<Out, float>) {
    multiply(product_of<float>(g, a, b, g.c.data, g.c.accumulate));
  } else {
    multiply(product_of<float>(g, a, b, c, false));
    to_bf16(c, g.m() * g.n(), g.c);
  }
}
void run(const Gemm<bf16, bf16>& g) { run_bf16(g); }
void run(const Gemm<bf16, float>& g) { run_bf16(g); }

}  // namespace

template <Isa isa, class In, class Out> void gemm(Cpu<isa>, const Gemm<In, Out>& g) { run(g); }

template void gemm(Cpu<kIsa>, const Gemm<float, float>&);
template void gemm(Cpu<kIsa>, const Gemm<double, double>&);
template void gemm(Cpu<kIsa>, const Gemm<bf16, bf16>&);
template void gemm(Cpu<kIsa>, const Gemm<bf16, float>&);

}  // namespace libtrain::kernels
