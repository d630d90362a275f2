#pragma once
#include "libtrain/ops/gemm.h"
#include "libtrain/ops/permute.h"

namespace libtrain {

/// How the matrices of a product are stored; nothing is copied to transpose them but where matmul() says so.
struct MatmulOptions {
  bool transpose_a = false;  ///< a's matrices are stored as [k, m]
  bool transpose_b = false;  ///< b's matrices are stored as [n, k]
};

/// Matrix products.
///   a [m, k], b [k, n] f32, bf16 or f64 (stored the other way round where the options say so)  →  [m, n]
///   a [..., m, k], b [..., k, n] with the same leading dimensions, or b [k, n] for all of them  →  [..., m, n]
/// k = 0 gives zeros. Products are summed in f32 (f64 for f64) and rounded once. With one b for all, a is copied where it is to be
/// transposed. Throws InvalidArgument when ranks, leading dimensions, inner sizes, dtypes or devices do not go together, naming the
/// transposition that would help.
Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options = {});

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// The options under which a and b can be multiplied, as a question; the rule when there are none.
inline std::string matmul_suggestion(const Shape& a, const Shape& b, MatmulOptions given) {
  const auto fits = [&](bool ta, bool tb) { return a[ta ? -2 : -1] == b[tb ? -1 : -2]; };
  const auto question = [](const char* how) { return format_message("; did you mean matmul(a, b{})?", how); };
  constexpr const char* kHow[2][2] = {{"", ", {.transpose_b = true}"},
                                      {", {.transpose_a = true}", ", {.transpose_a = true, .transpose_b = true}"}};
  const bool ta = given.transpose_a, tb = given.transpose_b;
  if (fits(ta, !tb)) return question(kHow[ta][!tb]);
  if (fits(!ta, tb)) return question(kHow[!ta][tb]);
  if (fits(!ta, !tb)) return question(kHow[!ta][!tb]);
  return "; the last of a must be the last but one of b";
}

/// Whether b is one matrix for all of a's.
inline bool shares_b(const Tensor& a, const Tensor& b) { return b.rank() == 2 && a.rank() > 2; }

inline void check_matmul(const Tensor& a, const Tensor& b, MatmulOptions options) {
  LIBTRAIN_CHECK(a.defined() && b.defined() && a.rank() >= 2 && b.rank() >= 2,
                 "[matmul] expected matrices or batches of them, got {} × {}; reshape() a vector to [n, 1] or [1, n]",
                 a.spec(), b.spec());
  check_like("matmul", "b", b, a, b.shape());
  const auto leading = [](const Tensor& t) { return t.shape().dims().first(size_t(t.rank() - 2)); };
  LIBTRAIN_CHECK(shares_b(a, b) || std::ranges::equal(leading(a), leading(b)),
                 "[matmul] leading dimensions differ: {} × {}; expected the same ones, or one matrix b for all of a's",
                 a.shape().str(), b.shape().str());
  LIBTRAIN_CHECK(a.dim(options.transpose_a ? -2 : -1) == b.dim(options.transpose_b ? -1 : -2),
                 "[matmul] inner sizes differ: {}{} × {}{}{}", a.shape().str(),
                 options.transpose_a ? " transposed" : "", b.shape().str(), options.transpose_b ? " transposed" : "",
                 matmul_suggestion(a.shape(), b.shape(), options));
}

/// a's leading dimensions, then [m, n].
inline Shape matmul_shape(const Tensor& a, const Tensor& b, MatmulOptions options) {
  std::vector<int64_t> dims(a.shape().dims().begin(), a.shape().dims().end());
  dims[dims.size() - 2] = a.dim(options.transpose_a ? -1 : -2);
  dims.back() = b.dim(options.transpose_b ? -2 : -1);
  return Shape(std::span<const int64_t>(dims));
}

/// How many matrices a shape holds.
inline int64_t matrices_in(const Shape& shape) {
  int64_t count = 1;
  for (int d = 0; d < shape.rank() - 2; ++d) count *= shape[d];
  return count;
}

/// The first matrix of a batch.
template <class T> View<const T> first_matrix(const Tensor& t) {
  return {t.matrix<const T>().data, {t.dim(-2), t.dim(-1), 1, 1}};
}

/// c (+)= op(a) op(b) for `count` matrices of each, one behind the other.
template <class T> void run_products(Device where, int64_t count, View<const T> a, bool transpose_a, View<const T> b,
                                     bool transpose_b, Sink<T> c) {
  kernels::Gemm<T, T> product{.a = a, .b = b, .transpose_a = transpose_a, .transpose_b = transpose_b, .c = c};
  product.batch = {count, a.size(), b.size(), product.m() * product.n()};
  run_gemm(where, product);
}

/// Gradients of c = op(a) op(b): da and db in the layouts in which a and b are stored.
template <class T> void matmul_backward(Device where, int64_t count, View<const T> a, View<const T> b, MatmulOptions o,
                                        View<const T> dc, Sink<T> da, Sink<T> db) {
  const bool ta = o.transpose_a, tb = o.transpose_b;
  if (da) ta ? run_products(where, count, b, tb, dc, true, da) : run_products(where, count, dc, false, b, !tb, da);
  if (db) tb ? run_products(where, count, dc, true, a, ta, db) : run_products(where, count, a, !ta, dc, false, db);
}

/// All of a's matrices below each other, times b.
inline Tensor matmul_shared(const Tensor& a, const Tensor& b, MatmulOptions options, const Shape& shape) {
  Tensor rows = a;
  if (options.transpose_a)
    rows = transposed("matmul", a.reshape(Shape{matrices_in(a.shape()), a.dim(-2), a.dim(-1)}), 1, 2);
  const Shape matrix{shape.rows(), b.dim(options.transpose_b ? 1 : 0)};
  return matmul(rows.reshape(matrix), b, {.transpose_b = options.transpose_b}).reshape(shape);
}

}  // namespace detail

inline Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options) {
  detail::check_matmul(a, b, options);
  const Shape shape = detail::matmul_shape(a, b, options);
  if (detail::shares_b(a, b)) return detail::matmul_shared(a, b, options, shape);
  const Tensor c(shape, a.dtype(), a.device());
  const int64_t count = detail::matrices_in(shape);
  visit_float("matmul", a.dtype(), [&]<class T> {
    const View<const T> a_view = detail::first_matrix<T>(a), b_view = detail::first_matrix<T>(b);
    const View<const T> c_view = detail::first_matrix<T>(c);
    detail::run_products<T>(a.device(), count, a_view, options.transpose_a, b_view, options.transpose_b,
                            {c.matrix<T>().data});
    record("matmul", c, {a, b}, {}, [=](const BackwardStep& step) {
      const Sink<T> da = step.sink<T>(0), db = step.sink<T>(1);  // in this order: the two may be one tensor
      const View<const T> dc{step.doutput<T>().data, c_view.dims};
      detail::matmul_backward<T>(step.output.device(), count, a_view, b_view, options, dc, da, db);
    });
  });
  return c;
}

}  // namespace libtrain
