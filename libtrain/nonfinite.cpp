#include "libtrain/nonfinite.h"

#include <algorithm>
#include <utility>

#include "kernels/count_nonfinite.h"

namespace libtrain {
namespace {

/// The first argument that is a parameter.
std::string parameter_among(const std::vector<Tensor>& inputs, const Parameters& parameters) {
  for (const Tensor& input : inputs)
    for (const auto& slot : parameters.slots())
      if (input.defined() && input.node_handle() == slot.value.node_handle()) return slot.name;
  return "";
}

/// Whether one of `tensors`, or its gradient, lies in this memory.
bool lies_in(const std::shared_ptr<std::byte>& memory, const std::vector<Tensor>& tensors) {
  return std::ranges::any_of(tensors, [&](const Tensor& tensor) {
    return tensor.defined() &&
           (tensor.node_handle()->storage == memory || tensor.node_handle()->grad_storage == memory);
  });
}

/// Whether one of `outputs` took the place of the input. A view of a part, such as slice(), leaves it as it was.
bool was_overwritten(const Tensor& input, const std::vector<Tensor>& outputs) {
  return std::ranges::any_of(outputs, [&](const Tensor& output) {
    return output.defined() && output.node_handle()->data == input.node_handle()->data &&
           output.numel() == input.numel();
  });
}

/// What an operation was given, so that it had no choice. What it has overwritten is left out: that was looked at when it was made.
std::string cause_of(const TapeObserver::Operation& operation, bool backward) {
  for (size_t i = 0; i < operation.inputs.size() && !backward; ++i) {  // in backward gradients may lie where they were
    const Tensor& input = operation.inputs[i];
    if (!input.defined() || was_overwritten(input, operation.outputs)) continue;
    if (const auto count = count_nonfinite(input))
      return format_message("input {}, {}, has {}", i, input.spec(), count.str());
  }
  for (const Tensor& output : operation.outputs) {
    if (!output.has_grad() || lies_in(output.node_handle()->grad_storage, operation.inputs)) continue;
    if (const auto count = count_nonfinite(output.grad()))
      return format_message("the gradient that arrived, {}, has {}", output.grad().spec(), count.str());
  }
  return "";
}

/// Remembers the first one instead of throwing.
class FindNonFinite : public DetectNonFinite {
 public:
  FindNonFinite(const Parameters& parameters, NonFiniteReport& report) : DetectNonFinite(parameters), report_(report) {}

 private:
  void found(NonFiniteOperation operation) override { report_.operation = std::move(operation); }

  NonFiniteReport& report_;
};

/// No gradient is left behind, whatever happens.
struct GradientsCleared {
  const Parameters& parameters;
  explicit GradientsCleared(const Parameters& of) : parameters(of) { parameters.clear_gradients(); }
  ~GradientsCleared() { parameters.clear_gradients(); }
};

}  // namespace

std::string NonFiniteCount::str() const { return format_message("{} NaN, {} infinite", nan, infinite); }

NonFiniteCount count_nonfinite(const Tensor& tensor) {
  if (!is_float(tensor.dtype()) || tensor.numel() == 0) return {};
  const Tensor counts = Tensor::zeros({2}, DType::i64, tensor.device());
  visit_float("count_nonfinite", tensor.dtype(), [&]<class T> {
    const kernels::CountNonFinite<T> args{tensor.reshape({tensor.numel()}).view<const T>(), counts.view<int64_t>()};
    on(tensor.device(), [&](auto device) { kernels::count_nonfinite(device, args); });
  });
  const auto found = counts.to_vector<int64_t>();
  return {found[0], found[1]};
}

std::string NonFiniteOperation::str() const {
  std::string text = format_message("{} (operation {} of the step, {}) made {}, {}", name, index,
                                    backward ? "backward" : "forward", tensor, count.str());
  if (!parameter.empty()) text += "; its parameter is " + parameter;
  if (!cause.empty()) text += "; it was given them: " + cause;
  return text;
}

std::string NonFiniteReport::str() const {
  std::string text =
      format_message("update {} is not finite and changed nothing (epoch {}, mini-batch {}{}, loss {:.6g}): ", update,
                     epoch, batch, batches > 1 ? format_message(" to {}", batch + batches - 1) : "", loss);
  const std::string not_repeated = "its mini-batches could not be repeated to find out why: " + failure;
  if (!failure.empty() && !operation && parameters.empty()) return text + not_repeated;
  if (!operation && parameters.empty())
    return text +
           "all is finite when its mini-batches are repeated; something that is not repeated made it, such as an "
           "on_update handler, a loss with a state of its own or a failing device";
  text += operation ? operation->str() : std::string("each mini-batch is finite, their sum is not");
  if (!parameters.empty())
    text += format_message("; gradients of {} parameters are not finite, the first {} ({})", parameters.size(),
                           parameters[0].name, parameters[0].count.str());
  if (!failure.empty()) text += "; then " + not_repeated;
  return text;
}

void DetectNonFinite::look(const Operation& operation, bool backward, const std::string& tensor, const Tensor& values) {
  if (done_) return;
  const NonFiniteCount count = count_nonfinite(values);
  if (!count) return;
  done_ = true;
  found({operation.name, operation.index, backward, tensor + ", " + values.spec(), count,
         parameter_among(operation.inputs, parameters_), cause_of(operation, backward)});
}

void DetectNonFinite::forward(const Operation& operation) {
  for (size_t i = 0; i < operation.outputs.size(); ++i)
    look(operation, false, format_message("output {}", i), operation.outputs[i]);
}

void DetectNonFinite::backward(const Operation& operation) {
  for (size_t i = 0; i < operation.inputs.size(); ++i)
    if (const Tensor& input = operation.inputs[i]; input.defined() && input.has_grad())
      look(operation, true, format_message("gradient of input {}", i), input.grad());
}

void DetectNonFinite::found(NonFiniteOperation operation) {
  done_ = false;  // for a step that is tried again
  throw Diverged("[detect_nonfinite] " + operation.str());
}

void examine_nonfinite(const Parameters& parameters, NonFiniteReport& report,
                       const std::function<void(int64_t)>& repeat) {
  const GradientsCleared cleared(parameters);
  try {
    FindNonFinite find(parameters, report);
    for (int64_t i = 0; i < report.batches; ++i) repeat(i);
    for (const auto& slot : parameters.slots()) {
      if (!slot.value.has_grad()) continue;
      if (const auto count = count_nonfinite(slot.value.grad())) report.parameters.push_back({slot.name, count});
    }
  } catch (const Error& error) {
    report.failure = error.what();
  }
}

void throw_diverged(const NonFiniteReport& report) {
  throw Diverged(
      format_message("[train_loop] {}. It is number {} in a row; no weight has changed since the one before them. "
                     "Lower the learning rate, "
                     "lengthen its warm-up or clip the norm (clip_norm), and check the data of these mini-batches",
                     report.str(), report.in_a_row));
}

}  // namespace libtrain
