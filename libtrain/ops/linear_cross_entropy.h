#pragma once
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/scale.h"
#include "libtrain/ops/cross_entropy.h"
#include "libtrain/ops/index_select.h"
#include "libtrain/ops/linear.h"

namespace libtrain {

/// cross_entropy(linear(x, weight, bias), targets) without ever holding all logits: they are made for a chunk of rows at
/// a time.
///   x [..., in] f32, bf16 or f64;  weight [vocab, in], bias [vocab] (or undefined: none) of the same dtype
///   targets i32 [...]  →  as cross_entropy()
/// At most chunk_elements logits exist at any time (but at least one row of them): unless told otherwise 2^22, or 128 rows of them where
/// that is more, as every chunk reads all of the weight, and 2^29 (1 GiB in bf16) on a CUDA device, where every chunk costs launches.
/// Under a tape, the pass that makes the losses turns the logits into their gradients, those of the sum of all losses; backward multiplies them by
/// the gradient that it is given. One chunk of logits is kept until backward; several are turned at once into gradients of x, weight and bias, so no
/// logits are made twice (as in P.-L. Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", 2024).
/// On the CPU, rows that are ignored cost nothing (as in E. Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", ICLR 2025).
/// x and weight must not be one tensor. Everything else is as in cross_entropy() and linear().
TokenLoss linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& targets,
                               int64_t ignore_index = -100, double label_smoothing = 0,
                               std::optional<int64_t> chunk_elements = {});

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// The whole computation as views, cut into chunks of (nearly) equally many rows.
template <class T> struct LinearCrossEntropy {
  using A = accum_t<T>;
  Device where;
  View<const T> x, weight, bias;
  View<const int32_t> targets;
  int64_t ignore_index;
  double label_smoothing;
  int64_t chunks;  // at least one, be it empty: it defines the gradients

  int64_t rows() const { return x.dims[0]; }
  int64_t vocab() const { return weight.dims[0]; }
  int64_t begin(int64_t chunk) const { return rows() * chunk / chunks; }
  int64_t chunk_rows(int64_t chunk) const { return begin(chunk + 1) - begin(chunk); }
  /// Rows of the largest chunk.
  int64_t most_rows() const { return (rows() + chunks - 1) / chunks; }

  View<const T> x_rows(int64_t chunk) const {
    return {x.data + begin(chunk) * x.dims[1], {chunk_rows(chunk), x.dims[1], 1, 1}};
  }
  /// Writes the chunk's logits into `buffer` and returns their matrix.
  View<T> logits(int64_t chunk, View<T> buffer) const {
    run_gemm(where, kernels::Gemm<T, T>{
                        .a = x_rows(chunk), .b = weight, .transpose_b = true, .bias = bias, .c = {buffer.data}});
    return {buffer.data, {chunk_rows(chunk), vocab(), 1, 1}};
  }

  struct Gradients {
    Sink<T> dx;
    Sink<A> dweight, dbias;
    explicit operator bool() const { return dx || dweight || dbias; }
  };
  void forward(View<T> buffer, View<A> row_loss, bool in_place, Gradients gradients) const;
  void backward(int64_t chunk, View<T> dlogits, Gradients& gradients) const;
};

/// Gradients of the sum of all losses; undefined where none is wanted.
struct LossGradients {
  Tensor dx, dweight, dbias;

  LossGradients() = default;
  LossGradients(const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const auto like = [](const Tensor& input, DType dtype) {
      return input.defined() && input.requires_grad() ? Tensor(input.shape(), dtype, input.device()) : Tensor();
    };
    const DType sums = accum_dtype(x.dtype());
    dx = like(x, x.dtype()), dweight = like(weight, sums), dbias = like(bias, sums);
  }
  template <class T> typename LinearCrossEntropy<T>::Gradients sinks() const {
    return {sink_of<T>(dx), sink_of<accum_t<T>>(dweight), sink_of<accum_t<T>>(dbias)};
  }

 private:
  template <class T> static Sink<T> sink_of(const Tensor& tensor) {
    return tensor.defined() ? Sink<T>{tensor.matrix<T>().data} : Sink<T>{};
  }
};

/// gradient (+)= dsum * kept
template <class T>
void hand_on(Device where, const Sink<T>& kept, int64_t size, View<const accum_t<T>> dsum, Sink<T> gradient) {
  if (!gradient) return;
  on(where, [&](auto device) {
    kernels::scale(device, kernels::Scale<T>{{kept.data, {size, 1, 1, 1}}, 1, gradient, kernels::kNoOffset, dsum});
  });
}

/// Losses. With in_place the logits become their gradients, and those become the gradients that are wanted.
template <class T>
void LinearCrossEntropy<T>::forward(View<T> buffer, View<A> row_loss, bool in_place, Gradients gradients) const {
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const View<T> z = logits(chunk, buffer);
    const std::array<int64_t, 4> dims{chunk_rows(chunk), 1, 1, 1};
    const kernels::CrossEntropy<T> loss{z, {targets.data + begin(chunk), dims}, {}, ignore_index, label_smoothing};
    on(where, [&](auto device) {
      kernels::cross_entropy_forward(device, loss, {row_loss.data + begin(chunk), dims}, in_place ? z : View<T>{});
    });
    if (gradients) backward(chunk, z, gradients);
  }
}

/// One chunk's part of the gradients.
template <class T> void LinearCrossEntropy<T>::backward(int64_t chunk, View<T> dlogits, Gradients& gradients) const {
  auto& [dx, dweight, dbias] = gradients;
  const Sink<T> dx_rows{dx.data + begin(chunk) * x.dims[1], dx.accumulate};
  if (dx) run_gemm(where, kernels::Gemm<T, T>{.a = dlogits, .b = weight, .c = dx_rows});
  run_weight_gradient<T>(where, dlogits, x_rows(chunk), dweight, dbias);
  dweight.accumulate = dbias.accumulate = true;
}

/// x [rows, in] and targets [rows] without the rows that are ignored; themselves when all count.
inline std::pair<Tensor, Tensor> without_ignored(const Tensor& x, const Tensor& targets, int64_t ignore_index) {
  const View<const int32_t> all = flat_targets(targets);
  const std::span<const int32_t> classes(all.data, size_t(all.size()));
  if (std::ranges::find(classes, ignore_index) == classes.end()) return {x, targets};
  std::vector<int32_t> rows, kept;
  for (int64_t row = 0; row < all.size(); ++row) {
    if (all.data[row] == ignore_index) continue;
    rows.push_back(int32_t(row));
    kept.push_back(all.data[row]);
  }
  const int64_t count = int64_t(rows.size());
  const auto tensor = [count](std::span<const int32_t> values) { return Tensor::from(values, {count}); };
  return {index_select(x.reshape({all.size(), x.dim(-1)}), tensor(rows)), tensor(kept)};
}

/// As many logits as may exist where nobody says how many.
inline int64_t chunk_elements_for(Device device, int64_t vocab) {
  if (device == Device::kCuda) return int64_t(1) << 29;
  return std::max(int64_t(1) << 22, 128 * vocab);
}

/// The operation, of arguments that have been checked.
inline TokenLoss chunked_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& targets,
                                       int64_t ignore_index, double label_smoothing, int64_t chunk_elements) {
  const int64_t rows = x.shape().rows(), vocab = weight.dim(0);
  const int64_t chunk_rows = std::max<int64_t>(1, chunk_elements / vocab);
  const int64_t chunks = std::max<int64_t>(1, (rows + chunk_rows - 1) / chunk_rows);
  const Tensor row_loss({rows}, accum_dtype(x.dtype()), x.device());
  TokenLoss loss;
  visit_float("linear_cross_entropy", x.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const LinearCrossEntropy<T> args{x.device(),
                                     x.matrix<const T>(),
                                     weight.view<const T>(),
                                     optional_view<T>(bias),
                                     flat_targets(targets),
                                     ignore_index,
                                     label_smoothing,
                                     chunks};
    Tensor logits({args.most_rows(), vocab}, x.dtype(), x.device());
    const bool recorded = records({x, weight, bias});
    LossGradients made;
    if (chunks > 1 && recorded) made = {x, weight, bias};
    const auto gradients = made.sinks<T>();
    args.forward(logits.view<T>(), row_loss.view<A>(), recorded, gradients);
    loss = sum_losses<A>(row_loss, targets, ignore_index);
    const View<T> kept = chunks == 1 ? logits.view<T>() : View<T>{};
    if (!kept) logits = {};
    record("linear_cross_entropy", loss.sum, {x, weight, bias}, {logits, made.dx, made.dweight, made.dbias},
           [args, kept, gradients](const BackwardStep& step) {
             const View<const A> dsum = step.doutput<A>();
             typename LinearCrossEntropy<T>::Gradients sinks{step.sink<T>(0), step.sink<A>(1),
                                                             args.bias ? step.sink<A>(2) : Sink<A>{}};
             if (kept) {
               hand_on(args.where, Sink<T>{kept.data}, kept.size(), dsum, Sink<T>{kept.data});
               return args.backward(0, kept, sinks);
             }
             hand_on(args.where, gradients.dx, args.x.size(), dsum, sinks.dx);
             hand_on(args.where, gradients.dweight, args.weight.size(), dsum, sinks.dweight);
             hand_on(args.where, gradients.dbias, args.bias.size(), dsum, sinks.dbias);
           });
  });
  return loss;
}

}  // namespace detail

inline TokenLoss linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& targets,
                                      int64_t ignore_index, double label_smoothing,
                                      std::optional<int64_t> chunk_elements) {
  constexpr const char* kOp = "linear_cross_entropy";
  detail::check_linear(kOp, x, weight, bias);
  detail::check_token_loss(kOp, x, targets, weight.dim(0), ignore_index, label_smoothing);
  LIBTRAIN_CHECK(
      x.node_handle() != weight.node_handle(),
      "[linear_cross_entropy] x and weight are one tensor, {}; use cross_entropy(linear(x, weight), targets)",
      x.spec());
  const int64_t most = chunk_elements.value_or(detail::chunk_elements_for(x.device(), weight.dim(0)));
  LIBTRAIN_CHECK(most > 0, "[linear_cross_entropy] chunk_elements must be > 0, got {}; leave it out for the default",
                 most);
  if (x.device() != Device::kCpu)
    return detail::chunked_cross_entropy(x, weight, bias, targets, ignore_index, label_smoothing, most);
  const auto [counted, classes] = detail::without_ignored(x, targets, ignore_index);
  return detail::chunked_cross_entropy(counted, weight, bias, classes, ignore_index, label_smoothing, most);
}

}  // namespace libtrain
