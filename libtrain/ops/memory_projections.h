#pragma once
#include <memory>
#include <vector>

#include "libtrain/ops/cross_projection.h"

namespace libtrain {

/// cross_projection() of one memory for all layers of a decoder: keys and values of every layer at once, each layer's queries when it has them.
///   memory [memory rows, in] f32, bf16 or f64;  one weight [3 size, in] and bias [3 size] a layer, or no biases at all
/// On a CUDA device, layers whose weights lie equally far apart in memory (as those of a parameter store do) take one product for all keys and
/// values, and one for the gradients of what made them. The gradient of each weight is written once, from both sides; a weight that anything else
/// reads behind this costs a pass of zeros more. Throws InvalidArgument when shapes, dtypes or devices differ from this, or two arguments are one
/// tensor.
class MemoryProjections {
 public:
  /// Makes keys and values of every layer. Keeps the weights and biases for queries().
  MemoryProjections(const Tensor& memory, std::vector<Tensor> weights, std::vector<Tensor> biases = {});

  /// [memory rows, 2 size]: the key of each row, then its value.
  const Tensor& keys_values(size_t layer) const {
    check_layer(layer);
    return keys_values_[layer];
  }
  /// x [rows, in] → [rows, size]
  Tensor queries(size_t layer, const Tensor& x) const;

 private:
  /// What queries of a layer tell its keys and values, whose backward comes later.
  struct Link {
    /// Of the layer's weight and bias, if none but the two sides have read them since keys and values were made.
    int64_t reads = -1;
    bool opened = false;  // queries have run backward
    /// What keys and values write holds something to add to.
    bool adds_to_weight = false, adds_to_bias = false;
  };
  template <class T> struct Layers;

  void check_layer(size_t layer) const {
    LIBTRAIN_CHECK(layer < weights_.size(), "[memory_projections] layer {} is none of the {}; they count from 0", layer,
                   weights_.size());
  }

  /// Each gradient is opened by one layer.
  void check_apart(const Tensor& memory) const;

  std::vector<Tensor> weights_, biases_, keys_values_;
  std::shared_ptr<std::vector<Link>> links_;
};

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// How often tapes have recorded that one of them was read.
inline int64_t reads_of(const Tensor& weight, const Tensor& bias) {
  return weight.node_handle()->reads + (bias.defined() ? bias.node_handle()->reads : 0);
}

/// Lets the gradients of these tensors, of equally many elements, be written one behind the other.
inline void bind_gradients(const std::vector<Tensor>& tensors) {
  const int64_t each = tensors[0].numel();
  const DType dtype = tensors[0].dtype();
  const Tensor all({int64_t(tensors.size()) * each}, dtype, tensors[0].device());
  for (size_t i = 0; i < tensors.size(); ++i) {
    TensorNode& node = *tensors[i].node_handle();
    node.grad_storage = all.node_handle()->storage;
    node.grad_data = all.node_handle()->data + int64_t(i) * each * size_of(dtype);
    node.grad_dtype = dtype;
  }
}

}  // namespace detail

/// The keys and values of all layers, as views.
template <class T> struct MemoryProjections::Layers {
  using A = accum_t<T>;
  /// One of them.
  struct Layer {
    View<const T> weight, bias;  // of keys and values
    View<T> y;                   // [memory rows, 2 size]
  };
  Device where;
  View<const T> memory;
  std::vector<Layer> layers;

  int64_t inputs() const { return memory.dims[1]; }
  int64_t size() const { return layers[0].weight.dims[0] / 2; }
  detail::ProjectionPart<T> part(size_t i) const { return {memory, layers[i].weight, layers[i].bias, size()}; }
  /// The rows of queries.
  detail::ProjectionPart<T> queries() const { return {{}, {nullptr, {size(), inputs(), 1, 1}}, {}, 0}; }

  /// Elements from one layer's to the next, where all are equally far apart: of what `of` gives for a layer. 0: they are not.
  template <class F> int64_t stride(const F& of) const {
    const auto step = [&](size_t i) { return of(i) - of(i - 1); };
    for (size_t i = 2; i < layers.size(); ++i)
      if (step(i) != step(1)) return 0;
    return layers.size() > 1 ? step(1) : 0;
  }

  void forward() const {
    const Layer& first = layers[0];
    kernels::Gemm<T, T> product{
        .a = memory, .b = first.weight, .transpose_b = true, .bias = first.bias, .c = {first.y.data}};
    product.batch = {.count = int64_t(layers.size()),
                     .b = stride([&](size_t i) { return layers[i].weight.data; }),
                     .c = stride([&](size_t i) { return layers[i].y.data; }),
                     .bias = first.bias ? stride([&](size_t i) { return layers[i].bias.data; }) : 0};
    const bool together =
        where == Device::kCuda && product.batch.b > 0 && product.batch.c > 0 && (!first.bias || product.batch.bias > 0);
    if (together) return detail::run_gemm(where, product);
    for (const Layer& layer : layers)
      detail::run_gemm(
          where, kernels::Gemm<T, T>{
                     .a = memory, .b = layer.weight, .transpose_b = true, .bias = layer.bias, .c = {layer.y.data}});
  }

  /// From the gradients of keys and values, of all layers to which one has come.
  void backward(const BackwardStep& step, std::vector<Link>& links) const {
    const size_t count = layers.size();
    const bool has_biases = step.inputs.size() > 1 + count;
    std::vector<Gradients> gradients(count);
    for (size_t i = count; i-- > 0;) {
      auto& [dy, dweight, dbias] = gradients[i];
      if (!(dy = step.doutput<T>(i)))
        continue;  // what is missing of the gradients is zero: queries() have seen to that
      dweight = step.sink<A>(1 + i);
      if (has_biases) dbias = step.sink<A>(1 + count + i);
      const Link found = links[i];
      // Queries have begun the gradient, or their rows are missing from it, as from a tensor of this step's own.
      const auto missing = [&](Sink<A>& sink, size_t input, bool adds) {
        if (!found.opened || step.has_stand_in(input)) return sink;
        sink.accumulate = adds;
        return Sink<A>{};
      };
      const Sink<A> weight_rows = missing(dweight, 1 + i, found.adds_to_weight),
                    bias_rows = missing(dbias, 1 + count + i, found.adds_to_bias);
      queries().template clear<A>(where, weight_rows, bias_rows);
      if (const auto dmemory = step.sink<T>(0))
        detail::run_gemm(where, kernels::Gemm<T, T>{.a = dy, .b = part(i).weight, .c = dmemory});
    }
    backward_weights(gradients);
    links.assign(count, {});
  }
  /// Gradients of the whole weight and bias of each layer whose dy has arrived.
  struct Gradients {
    View<const T> dy;        // none: it has not
    Sink<A> dweight, dbias;  // [3 size, in], [3 size]
  };
  void backward_weights(const std::vector<Gradients>& gradients) const {
    const Gradients& first = gradients[0];
    bool together = where == Device::kCuda && memory.size() > 0;
    for (const Gradients& g : gradients)
      together = together && g.dy && g.dweight && bool(g.dbias) == bool(first.dbias) &&
                 g.dweight.accumulate == first.dweight.accumulate && g.dbias.accumulate == first.dbias.accumulate;
    if (together) together = backward_weights_at_once(gradients);
    for (size_t i = 0; i < layers.size() && !together; ++i)
      if (gradients[i].dy)
        part(i).template backward_weight<A>(where, gradients[i].dy, gradients[i].dweight, gradients[i].dbias);
  }
  /// False, with nothing done, where they do not lie equally far apart.
  bool backward_weights_at_once(const std::vector<Gradients>& gradients) const {
    const Gradients& first = gradients[0];
    kernels::Gemm<T, A> product{.a = first.dy, .b = memory, .transpose_a = true, .c = first.dweight};
    product.c.data += size() * inputs();
    product.batch = {.count = int64_t(layers.size()),
                     .a = stride([&](size_t i) { return gradients[i].dy.data; }),
                     .c = stride([&](size_t i) { return gradients[i].dweight.data; })};
    if (first.dbias) {
      product.sums = {first.dbias.data + size(), first.dbias.accumulate};
      product.batch.sums = stride([&](size_t i) { return gradients[i].dbias.data; });
    }
    if (product.batch.a <= 0 || product.batch.c <= 0 || (first.dbias && product.batch.sums <= 0)) return false;
    std::vector<const void*> written;
    for (const Gradients& g : gradients) written.insert(written.end(), {g.dweight.data, g.dbias.data});
    detail::run_beside(where, written, [&] { detail::run_gemm(where, product); });
    return true;
  }
};

inline void MemoryProjections::check_apart(const Tensor& memory) const {
  std::vector<Tensor> all{memory};
  all.insert(all.end(), weights_.begin(), weights_.end());
  all.insert(all.end(), biases_.begin(), biases_.end());
  for (size_t i = 1; i < all.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      LIBTRAIN_CHECK(
          !all[i].defined() || !all[j].defined() || all[i].node_handle() != all[j].node_handle(),
          "[memory_projections] two of its arguments are one tensor, {}; use cross_projection() for each layer",
          all[i].spec());
}

inline MemoryProjections::MemoryProjections(const Tensor& memory, std::vector<Tensor> weights,
                                            std::vector<Tensor> biases)
    : weights_(std::move(weights)),
      biases_(std::move(biases)),
      links_(std::make_shared<std::vector<Link>>(weights_.size())) {
  constexpr const char* kOp = "memory_projections";
  const size_t count = weights_.size();
  LIBTRAIN_CHECK(count > 0 && (biases_.empty() || biases_.size() == count),
                 "[{}] expected a weight for each layer and a bias for each or none, got {} and {}", kOp, count,
                 biases_.size());
  for (size_t i = 0; i < count; ++i) {
    const Tensor& bias = biases_.empty() ? Tensor() : biases_[i];
    detail::check_cross_projection(kOp, "memory", memory, weights_[i], bias);
    check_like(kOp, "weight", weights_[i], weights_[0], weights_[0].shape());
  }
  check_apart(memory);
  const int64_t rows = memory.dim(0), size = weights_[0].dim(0) / 3;
  const Tensor all({int64_t(count), rows, 2 * size}, memory.dtype(), memory.device());
  for (size_t i = 0; i < count; ++i)
    keys_values_.push_back(all.rows(int64_t(i), int64_t(i) + 1).reshape({rows, 2 * size}));
  visit_float(kOp, memory.dtype(), [&]<class T> {
    Layers<T> parts{memory.device(), memory.view<const T>(), {}};
    for (size_t i = 0; i < count; ++i) {
      const T* weight = weights_[i].template view<const T>().data + size * memory.dim(1);
      const View<const T> bias = biases_.empty() ? View<const T>{} : biases_[i].template view<const T>();
      parts.layers.push_back({{weight, {2 * size, memory.dim(1), 1, 1}},
                              bias ? View<const T>{bias.data + size, {2 * size, 1, 1, 1}} : bias,
                              keys_values_[i].template view<T>()});
    }
    parts.forward();
    std::vector<Tensor> inputs{memory};
    inputs.insert(inputs.end(), weights_.begin(), weights_.end());
    inputs.insert(inputs.end(), biases_.begin(), biases_.end());
    record(kOp, keys_values_, inputs,
           [parts, links = links_](const BackwardStep& step) { parts.backward(step, *links); });
    for (size_t i = 0; i < count; ++i)
      (*links_)[i].reads = detail::reads_of(weights_[i], biases_.empty() ? Tensor() : biases_[i]);
    // Where backward will find it: equally far apart too.
    if (Tape::active() && keys_values_[0].requires_grad() && memory.device() == Device::kCuda)
      detail::bind_gradients(keys_values_);
  });
}

inline Tensor MemoryProjections::queries(size_t layer, const Tensor& x) const {
  constexpr const char* kOp = "query_projection";
  check_layer(layer);
  const Tensor &weight = weights_[layer], bias = biases_.empty() ? Tensor() : biases_[layer];
  detail::check_cross_projection(kOp, "x", x, weight, bias);
  const int64_t size = weight.dim(0) / 3;
  const Tensor y({x.dim(0), size}, x.dtype(), x.device());
  visit_float(kOp, x.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const View<const T> b = detail::optional_view<T>(bias);
    const detail::ProjectionPart<T> part{x.view<const T>(),
                                         {weight.view<const T>().data, {size, weight.dim(1), 1, 1}},
                                         b ? View<const T>{b.data, {size, 1, 1, 1}} : b,
                                         0};
    part.forward(x.device(), y);
    const int64_t reads_before = detail::reads_of(weight, bias);
    record(kOp, y, {x, weight, bias, keys_values_[layer]}, {}, [part, layer, links = links_](const BackwardStep& step) {
      Link& link = (*links)[layer];
      const Device where = step.output.device();
      part.backward_input(where, step.doutput<T>(), step, 0);
      const auto dweight = step.sink<A>(1), dbias = part.bias ? step.sink<A>(2) : Sink<A>{};
      const bool alone = detail::reads_of(step.inputs[1], step.inputs[2]) == link.reads;
      if (!link.opened) link = {link.reads, true, !alone || dweight.accumulate, !alone || dbias.accumulate};
      part.template backward_weight<A>(where, step.doutput<T>(), dweight, dbias);
      // The rows of keys and values are written with the gradients of these, in the same place; where there are none, or others may
      // add to them before, they are zero.
      const bool come_later = step.inputs[3].has_grad() && alone && !TapeObserver::present();
      const auto missing = [&](Sink<A> sink, size_t input) {
        return come_later && !step.has_stand_in(input) ? Sink<A>{} : sink;
      };
      const int64_t size = part.weight.dims[0];
      const View<const T> others{nullptr, {2 * size, part.weight.dims[1], 1, 1}};
      detail::ProjectionPart<T>{{}, others, {}, size}.template clear<A>(where, missing(dweight, 1), missing(dbias, 2));
    });
    (*links_)[layer].reads += detail::reads_of(weight, bias) - reads_before;
  });
  return y;
}

}  // namespace libtrain
