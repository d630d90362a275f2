#pragma once
#include "kernels/add_dropout_layer_norm.h"
#include "libtrain/ops/dropout.h"
#include "libtrain/ops/norm_epsilon.h"

namespace libtrain {

/// A residual sum and its normalization.
struct NormalizedSum {
  Tensor x;  ///< residual + dropout(branch + branch_bias)
  Tensor y;  ///< layer_norm(x)
};

/// The residual sum behind a sublayer and the normalization that follows it, in one pass each way:
///   x = residual + dropout(branch + branch_bias),  y = layer_norm(x, weight, bias, epsilon)
///   residual, branch [tokens, columns] f32, bf16 or f64, packed as `packing` says (or [..., columns] without packing)
///   branch_bias [columns] (or undefined: none), weight, bias [columns], all of the same dtype  →  x, y of that shape and dtype
/// The same as dropout_add() and layer_norm() one after the other, except that the gradient of x is not rounded in between. Both
/// results are differentiable, and either may go unused: a norm before the next sublayer takes both, one behind the sum takes y alone.
/// x is written over branch when that was moved in and nobody else holds its elements, and the gradients of branch and residual over x and
/// its gradient when nobody else holds these.
/// Saved for backward: x, and mean and 1/sqrt(variance + epsilon) of each row. Sources: Ba, Kiros, Hinton, arXiv 1607.06450; Srivastava
/// et al., JMLR 2014. Throws InvalidArgument when shapes, dtypes or devices differ from this, for p outside [0, 1), and for an epsilon that is
/// negative or not finite.
NormalizedSum add_dropout_layer_norm(const Tensor& residual, Tensor branch, const Tensor& branch_bias,
                                     const Tensor& weight, const Tensor& bias, const Packing& packing,
                                     const DropoutSpec& spec, double epsilon = 1e-5);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// Where the gradients of add_dropout_layer_norm's inputs go, by their order there; y is its output 0, x 1.
template <class T>
void add_dropout_layer_norm_backward(const BackwardStep& step, const kernels::AddDropoutLayerNorm<T>& args) {
  using A = accum_t<T>;
  const Device where = step.output.device();
  const bool has_bias = bool(args.branch_bias);
  on(where, [&](auto device) {
    const int64_t rows = args.x.dims[0], columns = args.x.dims[1];
    const Tensor workspace({kernels::layer_norm_blocks(device, rows), 3, columns}, dtype_of<A>, where);
    Tensor no_dy;  // only x was used: what arrived there passes through a norm that gives nothing
    if (!step.outputs[0].has_grad()) no_dy = Tensor::zeros(step.outputs[0].shape(), dtype_of<T>, where);
    const auto dresidual = step.sink_over_gradient<T>(0, 1), dbranch = step.sink_in_place<T>(1);
    const auto dweight = step.sink<A>(3), dbias = step.sink<A>(4);  // written in this order, before that of branch_bias
    kernels::add_dropout_layer_norm_backward(
        device, args,
        kernels::AddDropoutLayerNormGradients<T>{
            no_dy.defined() ? no_dy.matrix<const T>() : step.doutput<T>(0), step.doutput<T>(1), dresidual, dbranch,
            has_bias ? step.sink<A>(2) : Sink<A>{}, dweight, dbias, workspace.view<A>()});
  });
}

}  // namespace detail

inline NormalizedSum add_dropout_layer_norm(const Tensor& residual, Tensor branch, const Tensor& branch_bias,
                                            const Tensor& weight, const Tensor& bias, const Packing& packing,
                                            const DropoutSpec& spec, double epsilon) {
  constexpr const char* kOp = "add_dropout_layer_norm";
  LIBTRAIN_CHECK(residual.defined() && residual.rank() >= 1 && residual.dim(-1) > 0,
                 "[{}] residual must be [..., columns], got {}; reshape() it", kOp, residual.spec());
  check_like(kOp, "branch", branch, residual, residual.shape());
  const Shape row{residual.dim(-1)};
  if (branch_bias.defined()) check_like(kOp, "branch_bias", branch_bias, residual, row);
  check_like(kOp, "weight", weight, residual, row);
  check_like(kOp, "bias", bias, residual, row);
  detail::check_epsilon(kOp, epsilon);
  detail::check_dropout(kOp, branch, packing, spec);
  const bool drops = spec.active();
  const Device where = residual.device();
  const Shape rows{residual.shape().rows()};
  const DType sums = accum_dtype(residual.dtype());
  const NormalizedSum result{is_last_handle(branch) ? branch.detach() : Tensor(branch.shape(), branch.dtype(), where),
                             Tensor(branch.shape(), branch.dtype(), where)};
  const Tensor mean(rows, sums, where), rstd(rows, sums, where);
  visit_float(kOp, residual.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const View<T> x = result.x.matrix<T>();
    const kernels::AddDropoutLayerNorm<T> args{residual.matrix<const T>(),
                                               branch.matrix<const T>(),
                                               branch_bias.defined() ? branch_bias.view<const T>() : View<const T>{},
                                               drops ? detail::dropout_mask(packing, spec) : kernels::DropoutMask{},
                                               x,
                                               {x, weight.view<const T>(), bias.view<const T>(), result.y.matrix<T>(),
                                                mean.view<A>(), rstd.view<A>(), epsilon}};
    on(where, [&](auto device) { kernels::add_dropout_layer_norm_forward(device, args); });
    const auto saved = [&](const Tensor& tensor) { return drops ? tensor : Tensor(); };
    record(kOp, {result.y, result.x}, {residual, branch, branch_bias, weight, bias},
           {result.x, mean, rstd, saved(packing.sequences), saved(packing.positions), saved(spec.random_state)},
           [args](const BackwardStep& step) { detail::add_dropout_layer_norm_backward(step, args); });
  });
  return result;
}

}  // namespace libtrain
