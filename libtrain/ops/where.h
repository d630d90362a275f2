#pragma once
#include "kernels/select.h"
#include "libtrain/ops/broadcast.h"

namespace libtrain {

/// a where the mask is not 0, b where it is.
///   mask i32;  a, b f32, bf16 or f64, the same: all aligned at the last dimension, their sizes equal, or 1 or missing and then repeated
///     (which dimensions are may change three times from the first to the last)  →  the larger size of each dimension, the dtype of a and b
/// What is not chosen counts for nothing, be it infinite or NaN, and gets gradient 0; otherwise gradients are as in mul(). Throws
/// InvalidArgument when shapes, dtypes or devices differ from this.
Tensor where(const Tensor& mask, const Tensor& a, const Tensor& b);

/// x, but `value` where the mask is not 0: -infinity, say, before a softmax.
///   x f32, bf16 or f64;  mask i32, repeated to the shape of x as above  →  the shape and dtype of x
/// Throws InvalidArgument when shapes, dtypes or devices differ from this.
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// mask ? a : b over the plan of a, b and mask; an undefined one of the two is `number`.
template <class T> void run_select(Device where, const BroadcastPlan& plan, const int32_t* mask,
                                   std::array<const T*, 2> in, double number, Sink<T> y) {
  const kernels::Select<T> args{
      {mask, plan.strides[2]}, {{{in[0], plan.strides[0]}, {in[1], plan.strides[1]}}}, number, plan.sizes, y};
  on(where, [&](auto device) { kernels::select(device, args); });
}

/// The gradient of input i, which is side `side` of the plan: what arrives where it was chosen, 0 elsewhere.
template <class T>
void select_backward(const BackwardStep& step, const BroadcastPlan& plan, const int32_t* mask, size_t i, size_t side) {
  const Device where = step.output.device();
  BroadcastPlan of_terms = plan;  // where what arrives takes the side's place
  of_terms.strides[side] = plan.contiguous();
  std::array<const T*, 2> in{};
  in[side] = step.doutput<T>().data;
  with_sink<T>(step, i, plan.repeats(side), [&]<class Out>(Sink<Out> sink) {
    if constexpr (std::is_same_v<T, Out>)
      if (!plan.repeats(side)) return run_select<T>(where, of_terms, mask, in, 0, sink);
    const Tensor terms(step.output.shape(), dtype_of<T>, where);
    run_select<T>(where, of_terms, mask, in, 0, {terms.matrix<T>().data});
    sum_repeated<T, Out>(where, terms.matrix<const T>().data, plan, side, 1, sink);
  });
}

inline void check_mask(const char* op, const Tensor& mask, const Tensor& like) {
  LIBTRAIN_CHECK(mask.defined() && mask.dtype() == DType::i32,
                 "[{}] expected a mask in i32, 0 or 1, got {}; cast() converts", op, mask.spec());
  LIBTRAIN_CHECK(mask.device() == like.device(), "[{}] the mask is on {}, expected it on {}; move it with .to()", op,
                 name(mask.device()), name(like.device()));
}

}  // namespace detail

inline Tensor where(const Tensor& mask, const Tensor& a, const Tensor& b) {
  const Shape sides = detail::broadcast_shape("where", a, b);
  detail::check_mask("where", mask, a);
  const Shape shape = detail::joint_shape("where", sides, mask.shape());
  const detail::BroadcastPlan plan = detail::plan_broadcast("where", {a.shape(), b.shape(), mask.shape()}, shape);
  const Tensor y(shape, a.dtype(), a.device());
  visit_float("where", a.dtype(), [&]<class T> {
    const int32_t* chosen = mask.matrix<const int32_t>().data;
    detail::run_select<T>(a.device(), plan, chosen, {a.matrix<const T>().data, b.matrix<const T>().data}, 0,
                          {y.matrix<T>().data});
    record("where", y, {a, b}, {mask}, [plan, chosen](const BackwardStep& step) {
      detail::select_backward<T>(step, plan, chosen, 0, 0);
      detail::select_backward<T>(step, plan, chosen, 1, 1);
    });
  });
  return y;
}

inline Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  LIBTRAIN_CHECK(x.defined(), "[masked_fill] expected a tensor, got undefined; assign one to it first");
  detail::check_mask("masked_fill", mask, x);
  LIBTRAIN_CHECK(detail::joint_shape("masked_fill", x.shape(), mask.shape()) == x.shape(),
                 "[masked_fill] expected a mask that is no larger than x, got {} and {}; where() broadcasts both ways",
                 mask.spec(), x.spec());
  const detail::BroadcastPlan plan = detail::plan_broadcast("masked_fill", {{}, x.shape(), mask.shape()}, x.shape());
  const Tensor y(x.shape(), x.dtype(), x.device());
  visit_float("masked_fill", x.dtype(), [&]<class T> {
    const int32_t* filled = mask.matrix<const int32_t>().data;
    detail::run_select<T>(x.device(), plan, filled, {nullptr, x.matrix<const T>().data}, value, {y.matrix<T>().data});
    record("masked_fill", y, {x}, {mask},
           [plan, filled](const BackwardStep& step) { detail::select_backward<T>(step, plan, filled, 0, 1); });
  });
  return y;
}

}  // namespace libtrain
