#pragma once
#include "libtrain/ops/gemm.h"
#include "libtrain/tape.h"

namespace libtrain {

struct MatmulOptions {
  bool transpose_a = false;  ///< a is stored as [k, m]
  bool transpose_b = false;  ///< b is stored as [n, k]
};

/// Matrix product.
///   a [m, k], b [k, n] f32, bf16 or f64 (stored the other way round where the options say so)  →  [m, n]
/// k = 0 gives zeros. Products are summed in f32 (f64 for f64) and rounded once. Throws InvalidArgument when ranks, inner
/// sizes, dtypes or devices do not go together, naming the transposition that would help.
Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options = {});

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// The options under which a and b can be multiplied, as a question; "" when there are none.
inline std::string matmul_suggestion(const Shape& a, const Shape& b, MatmulOptions given) {
  const auto fits = [&](bool ta, bool tb) { return a[ta ? 0 : 1] == b[tb ? 1 : 0]; };
  const auto question = [](const char* how) { return format_message("; did you mean matmul(a, b{})?", how); };
  constexpr const char* kHow[2][2] = {{"", ", {.transpose_b = true}"},
                                      {", {.transpose_a = true}", ", {.transpose_a = true, .transpose_b = true}"}};
  const bool ta = given.transpose_a, tb = given.transpose_b;
  if (fits(ta, !tb)) return question(kHow[ta][!tb]);
  if (fits(!ta, tb)) return question(kHow[!ta][tb]);
  if (fits(!ta, !tb)) return question(kHow[!ta][!tb]);
  return "";
}

inline void check_matmul(const Tensor& a, const Tensor& b, MatmulOptions options) {
  LIBTRAIN_CHECK(a.defined() && b.defined() && a.rank() == 2 && b.rank() == 2,
                 "[matmul] expected two matrices, got {} × {}", a.spec(), b.spec());
  check_like("matmul", "b", b, a, b.shape());
  LIBTRAIN_CHECK(a.dim(options.transpose_a ? 0 : 1) == b.dim(options.transpose_b ? 1 : 0),
                 "[matmul] inner sizes differ: {}{} × {}{}{}", a.shape().str(),
                 options.transpose_a ? " transposed" : "", b.shape().str(), options.transpose_b ? " transposed" : "",
                 matmul_suggestion(a.shape(), b.shape(), options));
}

/// Gradients of c = op(a) op(b): da and db in the layouts in which a and b are stored.
template <class T> void matmul_backward(Device where, View<const T> a, View<const T> b, MatmulOptions o,
                                        View<const T> dc, Sink<T> da, Sink<T> db) {
  const bool ta = o.transpose_a, tb = o.transpose_b;
  if (da && ta) run_gemm(where, kernels::Gemm<T, T>{.a = b, .b = dc, .transpose_a = tb, .transpose_b = true, .c = da});
  if (da && !ta) run_gemm(where, kernels::Gemm<T, T>{.a = dc, .b = b, .transpose_b = !tb, .c = da});
  if (db && tb) run_gemm(where, kernels::Gemm<T, T>{.a = dc, .b = a, .transpose_a = true, .transpose_b = ta, .c = db});
  if (db && !tb) run_gemm(where, kernels::Gemm<T, T>{.a = a, .b = dc, .transpose_a = !ta, .c = db});
}

}  // namespace detail

inline Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options) {
  detail::check_matmul(a, b, options);
  const Tensor c({a.dim(options.transpose_a ? 1 : 0), b.dim(options.transpose_b ? 0 : 1)}, a.dtype(), a.device());
  visit_float("matmul", a.dtype(), [&]<class T> {
    const View<const T> a_view = a.view<const T>(), b_view = b.view<const T>();
    detail::run_gemm(a.device(), kernels::Gemm<T, T>{.a = a_view,
                                                     .b = b_view,
                                                     .transpose_a = options.transpose_a,
                                                     .transpose_b = options.transpose_b,
                                                     .c = {c.view<T>().data}});
    record("matmul", c, {a, b}, {}, [=](const BackwardStep& step) {
      const Sink<T> da = step.sink<T>(0), db = step.sink<T>(1);  // in this order: the two may be one tensor
      detail::matmul_backward<T>(step.output.device(), a_view, b_view, options, step.doutput<T>(), da, db);
    });
  });
  return c;
}

}  // namespace libtrain
