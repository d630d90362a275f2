#include "libtrain/tape.h"

#include <algorithm>

#include "libtrain/side_stream.h"

namespace libtrain {
namespace {
Tape*& active_tape() {
  thread_local Tape* tape = nullptr;
  return tape;
}

TapeObserver*& active_observer() {
  thread_local TapeObserver* observer = nullptr;
  return observer;
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

bool BackwardStep::input_is_ours(size_t i) const {
  const auto& node = inputs[i].node_handle();
  // Two owners are left: this step's input list and the step that made it. The maker would appear a third time had it saved its
  // output, as would any other reader.
  if (!node->recorded || node.use_count() != 2 || node->grad_written) return false;
  // Who read an output that lies over the input has had its turn: what is left are this step's lists of outputs and of what it saved.
  const auto& over = output.node_handle();
  return over->storage == node->storage ? over.use_count() == 2 && over->storage.use_count() == 2
                                        : node->storage.use_count() == 1;
}

Tape::Tape() : outer_(active_tape()) { active_tape() = this; }
Tape::~Tape() { active_tape() = outer_; }
Tape* Tape::active() { return active_tape(); }

NoTape::NoTape() : outer_(active_tape()) { active_tape() = nullptr; }
NoTape::~NoTape() { active_tape() = outer_; }

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
  try {
    const NoTape pause;
    visit_float("backward", output.dtype(), [&]<class T> { output.grad_sink<T>(); });
    output.grad().copy_from(doutput);
    run_backward();
  } catch (...) {
    if (detail::SideStream* side = detail::SideStream::active()) side->leave();
    for (const Tensor& leaf : leaves_) leaf.clear_grad();
    steps_.clear();
    leaves_.clear();
    throw;
  }
  leaves_.clear();
}

void Tape::run_backward() {
  detail::SideStream* const side = detail::SideStream::active();
  for (; !steps_.empty(); steps_.pop_back()) {
    const Step& step = steps_.back();
    const bool reached = std::ranges::any_of(step.outputs, [](const Tensor& output) { return output.has_grad(); });
    if (!reached) continue;
    step.backward({step.outputs, step.inputs});
    TapeObserver::tell(&TapeObserver::backward, step);
    if (side && side->is_open()) side->hold(memory_of({&step.outputs, &step.inputs, &step.saved}));
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
  for (const Tensor& input : step.inputs)
    if (wants_gradient(input) && !input.node_handle()->recorded) leaves_.push_back(input);
  steps_.push_back(std::move(step));
}

bool records(std::initializer_list<Tensor> inputs) {
  return active_tape() && std::ranges::any_of(inputs, wants_gradient);
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
