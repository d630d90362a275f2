/// Not an operation: what operations on several tensors share (add, sub, mul, div, where, masked_fill, binary_cross_entropy_with_logits). Shapes
/// are aligned at their last dimensions; where one of them has size 1, or none, its elements are repeated along the other's.
#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "kernels/broadcast.h"
#include "kernels/scale.h"
#include "libtrain/ops/dim_sum.h"

namespace libtrain::detail {

// ---- Shapes -------------------------------------------------------------------------------------------------------------

/// How two or three tensors meet: neighbouring dimensions in which all are repeated alike are one.
struct BroadcastPlan {
  using Four = std::array<int64_t, 4>;
  Four sizes{1, 1, 1, 1};  // of the result, outermost first
  std::array<Four, 3> strides{};
  Four contiguous() const { return {sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1}; }
  /// Dimensions along which argument i is repeated.
  bool repeats(size_t i, size_t dim) const { return strides[i][dim] == 0 && sizes[dim] != 1; }
  bool repeats(size_t i) const { return repeats(i, 0) || repeats(i, 1) || repeats(i, 2) || repeats(i, 3); }
};

/// Size of dimension `from_last` (0: the last) of a shape that may have fewer.
inline int64_t size_from_last(const Shape& shape, int from_last) {
  return from_last < shape.rank() ? shape[shape.rank() - 1 - from_last] : 1;
}

/// What to do about shapes that do not agree, where there is something: one may lie transposed, or be meant for the first dimensions.
inline std::string broadcast_remedy(const Shape& a, const Shape& b) {
  const int rank = a.rank();
  if (rank >= 2 && rank == b.rank() && a[-1] == b[-2] && a[-2] == b[-1]) return " (did you mean transpose(b, -2, -1)?)";
  if (rank < b.rank()) return broadcast_remedy(b, a);
  std::vector<int64_t> sizes(b.dims().begin(), b.dims().end());
  if (rank == b.rank() || !std::ranges::equal(sizes, a.dims().first(sizes.size()))) return "; reshape() one of them";
  sizes.resize(size_t(rank), 1);
  return format_message(" (did you mean to reshape {} to {}?)", b.str(), Shape(std::span<const int64_t>(sizes)).str());
}

/// The larger size of each dimension. Throws InvalidArgument naming `op` when there are two others than 1.
inline Shape joint_shape(const char* op, const Shape& a, const Shape& b) {
  std::vector<int64_t> sizes(size_t(std::max(a.rank(), b.rank())));
  for (int i = 0; i < int(sizes.size()); ++i) {
    const int64_t x = size_from_last(a, i), y = size_from_last(b, i);
    LIBTRAIN_CHECK(x == y || x == 1 || y == 1,
                   "[{}] expected sizes that are equal or 1, got {} and {}: {} against {} in dimension -{}{}", op,
                   a.str(), b.str(), x, y, i + 1, broadcast_remedy(a, b));
    sizes[sizes.size() - 1 - size_t(i)] = x == 1 ? y : x;
  }
  return Shape(std::span<const int64_t>(sizes));
}

/// Likewise of tensors, whose dtypes and devices must be the same.
inline Shape broadcast_shape(const char* op, const Tensor& a, const Tensor& b) {
  LIBTRAIN_CHECK(a.defined() && b.defined(), "[{}] expected two tensors, got {} and {}; assign them first", op,
                 a.spec(), b.spec());
  LIBTRAIN_CHECK(a.dtype() == b.dtype(), "[{}] expected one dtype, got {} and {}; cast() converts", op, a.spec(),
                 b.spec());
  LIBTRAIN_CHECK(a.device() == b.device(), "[{}] b is on {}, expected it on {}; move it with .to()", op,
                 name(b.device()), name(a.device()));
  return joint_shape(op, a.shape(), b.shape());
}

/// How arguments of these shapes meet in `result`.
inline BroadcastPlan plan_broadcast(const char* op, std::initializer_list<Shape> arguments, const Shape& result) {
  BroadcastPlan plan;
  std::array<int64_t, 3> inner{1, 1, 1};  // elements of the arguments within the dimensions so far
  std::optional<std::array<bool, 3>> merged;
  size_t at = 3;
  for (int i = 0; i < result.rank(); ++i) {
    const int64_t size = size_from_last(result, i);
    if (size == 1) continue;
    std::array<bool, 3> repeated{true, true, true};
    for (size_t j = 0; const Shape& argument : arguments) repeated[j++] = size_from_last(argument, i) == 1;
    if (merged != repeated) {
      LIBTRAIN_CHECK(
          !merged || at > 0,
          "[{}] repeats dimensions in turn, more often than is provided for, to make {}; broadcast in two operations",
          op, result.str());
      at -= merged.has_value();
      for (size_t j = 0; j < 3; ++j) plan.strides[j][at] = repeated[j] ? 0 : inner[j];
    }
    merged = repeated;
    plan.sizes[at] *= size;
    for (size_t j = 0; j < 3; ++j) inner[j] *= repeated[j] ? 1 : size;
  }
  return plan;
}

// ---- Gradients ----------------------------------------------------------------------------------------------------------

/// y (+)= scale * x [plan.sizes], summed over the dimensions along which argument i is repeated.
template <class From, class To>
void sum_repeated(Device where, const From* x, BroadcastPlan plan, size_t i, double scale, Sink<To> y) {
  size_t dim = 0;
  while (dim < 3 && !plan.repeats(i, dim)) ++dim;
  int64_t outer = 1, inner = 1;
  for (size_t d = 0; d < 4; ++d) (d < dim ? outer : inner) *= d == dim ? 1 : plan.sizes[d];
  if (!plan.repeats(i, dim)) return run_dim_sum<From, To>(where, x, {1, 1, outer * plan.sizes[dim], {}}, scale, y);
  const int64_t count = std::exchange(plan.sizes[dim], 1);
  if (!plan.repeats(i)) return run_dim_sum<From, To>(where, x, {outer, count, inner, {}}, scale, y);
  using A = accum_t<From>;
  const Tensor rest({outer, inner}, dtype_of<A>, where);
  run_dim_sum<From, A>(where, x, {outer, count, inner, {}}, 1, {rest.view<A>().data});
  sum_repeated<A, To>(where, rest.view<const A>().data, plan, i, scale, y);
}

/// Calls f(sink) if input i wants a gradient: of type T, or of accum_t<T> where it is kept so, as parameters' are. What an
/// operation repeats and none has made counts as a parameter.
template <class T, class F> void with_sink(const BackwardStep& step, size_t i, bool repeated, const F& f) {
  if (!step.inputs[i].requires_grad()) return;
  const TensorNode& node = *step.inputs[i].node_handle();
  const bool wide = node.grad_data ? node.grad_dtype != dtype_of<T> : repeated && !node.recorded;
  wide ? f(step.sink<accum_t<T>>(i)) : f(step.sink<T>(i));
}

/// The gradient of an argument that is `sign` times what arrives.
template <int sign> struct Passed {
  template <class T> static void run(const BackwardStep& step, const BroadcastPlan& plan, size_t i) {
    const View<const T> dy = step.doutput<T>();
    with_sink<T>(step, i, plan.repeats(i), [&]<class Out>(Sink<Out> sink) {
      if constexpr (std::is_same_v<T, Out>)
        if (!plan.repeats(i))
          return on(step.output.device(), [&](auto device) {
            kernels::scale(device, kernels::Scale<T>{dy, sign, sink});
          });
      sum_repeated<T, Out>(step.output.device(), dy.data, plan, i, sign, sink);
    });
  }
};

enum class Of { kA, kB, kDy };

/// The gradient of an argument that is F(first, second, dy), first and second each being a, b or dy.
template <class F, Of first, Of second> struct Term {
  template <class T> static void run(const BackwardStep& step, const BroadcastPlan& plan, size_t i) {
    const Device where = step.output.device();
    const std::array<kernels::Operand<T>, 3> all{{{step.inputs[0].matrix<const T>().data, plan.strides[0]},
                                                  {step.inputs[1].matrix<const T>().data, plan.strides[1]},
                                                  {step.doutput<T>().data, plan.contiguous()}}};
    const std::array<kernels::Operand<T>, 3> in{{all[size_t(first)], all[size_t(second)], all[size_t(Of::kDy)]}};
    const auto run_to = [&]<class Out>(Sink<Out> y) {
      on(where, [&](auto device) { kernels::broadcast<F>(device, kernels::Broadcast<T, Out>{in, plan.sizes, y}); });
    };
    with_sink<T>(step, i, plan.repeats(i), [&]<class Out>(Sink<Out> sink) {
      using A = accum_t<T>;
      if (!plan.repeats(i)) return run_to(sink);
      const Tensor terms(step.output.shape(), dtype_of<A>, where);
      run_to(Sink<A>{terms.matrix<A>().data});
      sum_repeated<A, Out>(where, terms.matrix<const A>().data, plan, i, 1, sink);
    });
  }
};

// ---- The operation ------------------------------------------------------------------------------------------------------

/// Records y, the result of `op`, with the gradients of a and b.
template <class GradientA, class GradientB>
void record_binary(const char* op, const Tensor& y, const Tensor& a, const Tensor& b, const BroadcastPlan& plan) {
  visit_float(op, y.dtype(), [&]<class T> {
    record(op, y, {a, b}, {}, [plan](const BackwardStep& step) {
      GradientA::template run<T>(step, plan, 0);
      GradientB::template run<T>(step, plan, 1);
    });
  });
}

/// F of a and b, recorded as `op`.
template <class F, class GradientA, class GradientB> Tensor binary(const char* op, const Tensor& a, const Tensor& b) {
  const Shape shape = broadcast_shape(op, a, b);
  const BroadcastPlan plan = plan_broadcast(op, {a.shape(), b.shape()}, shape);
  const Tensor y(shape, a.dtype(), a.device());
  visit_float(op, a.dtype(), [&]<class T> {
    const kernels::Broadcast<T, T> args{
        {{{a.matrix<const T>().data, plan.strides[0]}, {b.matrix<const T>().data, plan.strides[1]}, {}}},
        plan.sizes,
        {y.matrix<T>().data}};
    on(a.device(), [&](auto device) { kernels::broadcast<F>(device, args); });
  });
  record_binary<GradientA, GradientB>(op, y, a, b, plan);
  return y;
}

}  // namespace libtrain::detail
