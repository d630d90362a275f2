#pragma once
#include "libtrain/ops/linear.h"

namespace libtrain {

/// What cross-attention takes.
struct CrossProjection {
  Tensor queries;      // [rows of x, size]
  Tensor keys_values;  // [rows of the memory, 2 size]: the key of each row, then its value
};

/// Queries of x, keys and values of a memory, by the rows of one weight (Vaswani et al. 2017, section 3.2.2), as two linear():
///   x [rows, in], memory [memory rows, in] f32, bf16 or f64;  weight [3 size, in], bias [3 size] (or undefined: none), of the same dtype
/// The gradient of the weight is written once, from both sides. Throws InvalidArgument when shapes, dtypes or devices differ from this.
CrossProjection cross_projection(const Tensor& x, const Tensor& memory, const Tensor& weight, const Tensor& bias = {});

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// The checks of an input of a cross-projection, which is called `argument`.
inline void check_cross_projection(const char* op, const char* argument, const Tensor& input, const Tensor& weight,
                                   const Tensor& bias) {
  LIBTRAIN_CHECK(input.defined() && input.rank() == 2, "[{}] {} must be [rows, in], got {}; reshape() it", op, argument,
                 input.spec());
  LIBTRAIN_CHECK(weight.defined() && weight.rank() == 2, "[{}] weight must be [3 size, in], got {}; reshape() it", op,
                 weight.spec());
  LIBTRAIN_CHECK(input.dim(1) == weight.dim(1),
                 "[{}] {} must be [rows, {}] for weight {}, got {}; its last size is the second of weight", op,
                 argument, weight.dim(1), weight.spec(), input.spec());
  check_like_weight(op, argument, input, weight);
  check_linear(op, input, weight, bias);
  LIBTRAIN_CHECK(weight.dim(0) % 3 == 0,
                 "[{}] weight must have rows for queries, keys and values, as many of each, got {}", op, weight.spec());
}

/// The half of a cross-projection that makes so many columns of one input, from as many rows of the weight.
template <class T> struct ProjectionPart {
  View<const T> input, weight, bias;
  int64_t first_row;

  /// Elements of the weight in front of it.
  int64_t offset() const { return first_row * weight.dims[1]; }

  void forward(Device where, const Tensor& y) const {
    run_gemm(where,
             kernels::Gemm<T, T>{.a = input, .b = weight, .transpose_b = true, .bias = bias, .c = {y.view<T>().data}});
  }
  /// The input's gradient; none without dy. Comes before the weight's sink is asked for: should both be one tensor, each adds to its gradient.
  void backward_input(Device where, View<const T> dy, const BackwardStep& step, size_t input_number) const {
    if (!dy) return;
    if (const auto dx = step.sink<T>(input_number)) run_gemm(where, kernels::Gemm<T, T>{.a = dy, .b = weight, .c = dx});
  }
  /// Those rows of the weight's and bias's gradients that are its own; zero without dy.
  template <class A> void backward_weight(Device where, View<const T> dy, Sink<A> dweight, Sink<A> dbias) const {
    if (!dy) return clear(where, dweight, dbias);
    if (dweight) dweight.data += offset();
    if (dbias) dbias.data += first_row;
    run_weight_gradient<T>(where, dy, input, dweight, dbias);
  }
  template <class A> void clear(Device where, Sink<A> dweight, Sink<A> dbias) const {
    const int64_t rows = weight.dims[0];
    if (dweight && !dweight.accumulate)
      clear_bytes(dweight.data + offset(), where, size_t(rows * weight.dims[1]) * sizeof(A));
    if (dbias && !dbias.accumulate) clear_bytes(dbias.data + first_row, where, size_t(rows) * sizeof(A));
  }
};

}  // namespace detail

inline CrossProjection cross_projection(const Tensor& x, const Tensor& memory, const Tensor& weight,
                                        const Tensor& bias) {
  constexpr const char* kOp = "cross_projection";
  detail::check_cross_projection(kOp, "x", x, weight, bias);
  detail::check_cross_projection(kOp, "memory", memory, weight, bias);
  const int64_t size = weight.dim(0) / 3, inputs = weight.dim(1);
  const CrossProjection y{Tensor({x.dim(0), size}, x.dtype(), x.device()),
                          Tensor({memory.dim(0), 2 * size}, x.dtype(), x.device())};
  visit_float(kOp, x.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const View<const T> w = weight.view<const T>(), b = detail::optional_view<T>(bias);
    const auto part = [&](const Tensor& input, int64_t first, int64_t rows) {
      return detail::ProjectionPart<T>{input.view<const T>(),
                                       {w.data + first * inputs, {rows, inputs, 1, 1}},
                                       b ? View<const T>{b.data + first, {rows, 1, 1, 1}} : b,
                                       first};
    };
    const auto queries = part(x, 0, size), keys_values = part(memory, size, 2 * size);
    queries.forward(x.device(), y.queries);
    keys_values.forward(x.device(), y.keys_values);
    record(kOp, {y.queries, y.keys_values}, {x, memory, weight, bias}, {}, [=](const BackwardStep& step) {
      const Device where = step.output.device();
      const auto dqueries = step.doutput<T>(0), dkeys_values = step.doutput<T>(1);
      queries.backward_input(where, dqueries, step, 0);
      keys_values.backward_input(where, dkeys_values, step, 1);
      const auto dweight = step.sink<A>(2), dbias = b ? step.sink<A>(3) : Sink<A>{};
      queries.backward_weight(where, dqueries, dweight, dbias);
      keys_values.backward_weight(where, dkeys_values, dweight, dbias);
    });
  });
  return y;
}

}  // namespace libtrain
