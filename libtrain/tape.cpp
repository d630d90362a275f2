#include "libtrain/tape.h"

#include <algorithm>

#include "kernels/scale.h"
#include "libtrain/side_stream.h"

namespace libtrain {
namespace {
Tape*& active_tape() {
  thread_local Tape* tape = nullptr;
  return tape;
}

void activate(Tape* tape) {
  active_tape() = tape;
  detail::recording() = tape;
}

TapeObserver*& active_observer() {
  thread_local TapeObserver* observer = nullptr;
  return observer;
}

/// Adds `gradient` to that of `input`, which is kept as T, or makes it that.
template <class T> void add_converted(const Tensor& gradient, const Tensor& input) {
  const Tensor converted = gradient.cast(dtype_of<T>);
  const kernels::Scale<T> args{converted.matrix<const T>(), 1, input.grad_sink<T>()};
  on(gradient.device(), [&](auto device) { kernels::scale(device, args); });
}

bool wants_gradient(const Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

/// All memory of these tensors and their gradients.
std::vector<std::shared_ptr<std::byte>> memory_of(std::initializer_list<const std::vector<Tensor>*> lists) {
  std::vector<std::shared_ptr<std::byte>> memory;
  for (const std::vector<Tensor>* list : lists)
    for (const Tensor& tensor : *list)
      if (tensor.defined())
        memory.insert(memory.end(), {tensor.node_handle()->storage, tensor.node_handle()->grad_storage});
  return memory;
}
}  // namespace

/// How often this step itself holds the tensor.
int64_t BackwardStep::handles(const Tensor& tensor) const {
  int64_t count = 0;
  for (const std::vector<Tensor>* list : {&outputs, &inputs, &saved})
    count += std::ranges::count(*list, tensor.node_handle(), &Tensor::node_handle);
  return count;
}

Tensor BackwardStep::arrived(size_t i, DType dtype) const {
  const Tensor gradient = outputs[i].grad();
  if (gradient.dtype() == dtype) return gradient;
  return converted_.emplace_back(gradient.cast(dtype));
}

/// A new tensor for the gradient of input i, if that is kept in the other one of f32 and bf16.
bool BackwardStep::has_stand_in(size_t i) const {
  return std::ranges::any_of(stand_ins_, [i](const auto& of) { return of.first == i; });
}

Tensor BackwardStep::stand_in(size_t i, DType dtype) const {
  const Tensor& input = inputs[i];
  if (!input.defined() || !input.requires_grad()) return {};
  const auto& node = *input.node_handle();
  const auto other = dtype == DType::bf16 ? DType::f32 : DType::bf16;
  if (!node.grad_data || node.grad_dtype != other || dtype == DType::f64) return {};
  return stand_ins_.emplace_back(i, Tensor(input.shape(), dtype, input.device())).second;
}

void BackwardStep::finish() const {
  for (const auto& [i, gradient] : stand_ins_) {
    const int64_t size = gradient.numel() * size_of(gradient.dtype());
    detail::wait_for_gradient(gradient.node_handle()->data, size);
    gradient.dtype() == DType::bf16 ? add_converted<float>(gradient, inputs[i])
                                    : add_converted<bf16>(gradient, inputs[i]);
  }
}

bool BackwardStep::input_is_ours(size_t i) const {
  const auto& node = inputs[i].node_handle();
  // But for this step, the one that made it holds it once. It would hold it twice had it saved its output; any other reader would hold it too.
  if (!node->recorded || node.use_count() != handles(inputs[i]) + 1 || node->grad_written) return false;
  // Who read an output that lies over the input has had its turn.
  for (const Tensor& over : outputs)
    if (over.node_handle()->storage == node->storage)
      return over.node_handle().use_count() == handles(over) && node->storage.use_count() == 2;
  return node->storage.use_count() == 1;
}

bool BackwardStep::gradient_is_ours(size_t i, size_t j) const {
  const auto &to = inputs[i].node_handle(), &from = outputs[j].node_handle();
  return to->recorded && !to->grad_data && from->grad_written && from->grad_dtype == to->dtype &&
         from->numel == to->numel && from.use_count() == handles(outputs[j]) && from->grad_storage.use_count() == 1;
}

Tape::Tape() : outer_(active_tape()) { activate(this); }
Tape::~Tape() {
  clear();
  activate(outer_);
}
Tape* Tape::active() { return active_tape(); }

NoTape::NoTape() : outer_(active_tape()) { activate(nullptr); }
NoTape::~NoTape() { activate(outer_); }

TapeObserver::TapeObserver() : outer_(active_observer()) { active_observer() = this; }
bool TapeObserver::present() { return active_observer(); }
TapeObserver::~TapeObserver() { active_observer() = outer_; }

void TapeObserver::tell(TapeObserver* observer, void (TapeObserver::*event)(const Operation&),
                        const Operation& operation) {
  if (observer->outer_) tell(observer->outer_, event, operation);
  (observer->*event)(operation);
}

void TapeObserver::tell(void (TapeObserver::*event)(const Operation&), const Tape::Step& step) {
  if (TapeObserver* innermost = active_observer())
    tell(innermost, event, {step.op, step.index, step.outputs, step.inputs});
}

void Tape::backward(const Tensor& output) {
  LIBTRAIN_CHECK(output.numel() == 1, "[backward] expected a scalar, got {}; reduce it first", output.spec());
  backward(output, Tensor::full(output.shape(), 1, output.dtype(), output.device()));
}

void Tape::backward(const Tensor& output, const Tensor& doutput) {
  check_like("backward", "doutput", doutput, output, output.shape());
  LIBTRAIN_CHECK(output.requires_grad(),
                 "[backward] {} does not depend on anything recorded on this tape; make the Tape before the forward "
                 "pass, and call set_requires_grad() on what is to be learnt",
                 output.spec());
  LIBTRAIN_CHECK(is_recorded(output),
                 "[backward] {} is not on this tape: it is a leaf, another tape has recorded it, or backward has run "
                 "since; run forward again under this tape, and add losses that share a forward pass before backward",
                 output.spec());
  try {
    const NoTape pause;
    visit_float("backward", output.dtype(), [&]<class T> { output.grad_sink<T>(); });
    output.grad().copy_from(doutput);
    run_backward();
  } catch (...) {
    if (detail::SideStream* side = detail::SideStream::active()) side->leave();
    for (const Tensor& leaf : leaves_) leaf.clear_grad();
    clear();
    leaves_.clear();
    throw;
  }
  leaves_.clear();
}

bool Tape::is_recorded(const Tensor& output) const {
  const auto made_it = [&](const Step& step) {
    return std::ranges::count(step.outputs, output.node_handle(), &Tensor::node_handle) > 0;
  };
  return std::find_if(steps_.rbegin(), steps_.rend(), made_it) != steps_.rend();
}

/// Destroys the last step. What it made is a leaf from now on.
void Tape::pop() {
  for (const Tensor& output : steps_.back().outputs) output.node_handle()->recorded = false;
  steps_.pop_back();
}

void Tape::clear() {
  while (!steps_.empty()) pop();
}

void Tape::run_backward() {
  detail::SideStream* const side = detail::SideStream::active();
  for (; !steps_.empty(); pop()) {
    const Step& step = steps_.back();
    const bool reached = std::ranges::any_of(step.outputs, [](const Tensor& output) { return output.has_grad(); });
    if (!reached) continue;
    const BackwardStep running(step.outputs, step.inputs, step.saved);
    step.backward(running);
    running.finish();
    TapeObserver::tell(&TapeObserver::backward, step);
    if (side && side->is_open()) side->hold(memory_of({&step.outputs, &step.inputs, &step.saved, &running.converted_}));
  }
  if (side) side->join();
}

void Tape::append(Step step) {
  step.index = ops_++;
  TapeObserver::tell(&TapeObserver::forward, step);
  if (std::ranges::none_of(step.inputs, wants_gradient)) return;
  for (const Tensor& output : step.outputs) {
    output.set_requires_grad();
    output.node_handle()->recorded = true;
  }
  for (const Tensor& input : step.inputs) {
    if (!wants_gradient(input)) continue;
    ++input.node_handle()->reads;
    if (!input.node_handle()->recorded) leaves_.push_back(input);
  }
  steps_.push_back(std::move(step));
}

bool records(std::initializer_list<Tensor> inputs) {
  return active_tape() && std::ranges::any_of(inputs, wants_gradient);
}

bool is_last_handle(const Tensor& tensor) {
  const auto& node = tensor.node_handle();
  return node.use_count() == (node->recorded ? 2 : 1) && node->storage.use_count() == 1 && !node->grad_data;
}

void record(const char* op, const Tensor& output, std::initializer_list<Tensor> inputs,
            std::initializer_list<Tensor> saved, Tape::Backward backward) {
  if (active_tape()) active_tape()->append({op, {output}, inputs, saved, std::move(backward)});
}

void record(const char* op, std::initializer_list<Tensor> outputs, std::initializer_list<Tensor> inputs,
            std::initializer_list<Tensor> saved, Tape::Backward backward) {
  if (active_tape()) active_tape()->append({op, outputs, inputs, saved, std::move(backward)});
}

void record(const char* op, const Tensor& output, const std::vector<Tensor>& inputs, Tape::Backward backward) {
  if (active_tape()) active_tape()->append({op, {output}, inputs, {}, std::move(backward)});
}

void record(const char* op, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
            Tape::Backward backward) {
  if (active_tape()) active_tape()->append({op, outputs, inputs, {}, std::move(backward)});
}

}  // namespace libtrain
