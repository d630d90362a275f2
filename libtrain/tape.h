/// Reverse-mode differentiation: operations that run while a Tape is alive on this thread are recorded and replayed backwards.
#pragma once
#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "libtrain/tensor.h"

namespace libtrain {

/// What a recorded operation is given when its turn in backward comes.
class BackwardStep {
 public:
  const std::vector<Tensor>& outputs;  // mostly one
  const std::vector<Tensor>& inputs;   // numbered as in record(); undefined where the argument was
  const std::vector<Tensor>& saved;    // likewise
  const Tensor& output = outputs[0];   // for the many operations that have one

  /// Gradient that arrived at output i. Where there are several, one of them may have got none: then no view.
  template <class T> View<const T> doutput(size_t i = 0) const {
    return outputs[i].has_grad() ? arrived(i, dtype_of<T>).template matrix<const T>() : View<const T>{};
  }
  /// Where the gradient of input i goes; empty if it is not wanted. Two inputs may be one tensor: sinks are written in the order in which they
  /// were asked for, since the first may overwrite and the second adds. Where that is kept in another dtype, as parameters' are with mixed
  /// precision, it goes to a tensor of the step's own, which is added when the step has run.
  template <class T> Sink<T> sink(size_t i) const {
    if (const Tensor other = stand_in(i, dtype_of<T>); other.defined()) return {other.matrix<T>().data, false};
    return inputs[i].grad_sink<T>();
  }
  /// Whether sink(i) was asked for and is such a tensor.
  bool has_stand_in(size_t i) const;
  /// As sink(i), but the gradient overwrites input i itself when nobody else can see that: the input was made by a recorded
  /// operation that did not save it, this step is its only reader and the tape its only owner, and no gradient was written yet. An output
  /// of the step may lie over the input, if nobody else holds it.
  /// The kernel must then allow its gradient to alias the input's values.
  template <class T> Sink<T> sink_in_place(size_t i) const {
    if (input_is_ours(i)) inputs[i].keep_grad_in_place();
    return sink<T>(i);
  }
  /// Whether sink_in_place(i) overwrites input i.
  bool input_is_ours(size_t i) const;
  /// As sink(i), but the gradient of input i overwrites the one that arrived at output j, of as many elements, when nobody else can see
  /// that. The kernel must then allow the two to alias.
  template <class T> Sink<T> sink_over_gradient(size_t i, size_t j) const {
    if (gradient_is_ours(i, j)) inputs[i].take_grad_memory(outputs[j]);
    return sink<T>(i);
  }
  /// Whether sink_over_gradient(i, j) overwrites the gradient of output j.
  bool gradient_is_ours(size_t i, size_t j) const;

 private:
  friend class Tape;
  BackwardStep(const std::vector<Tensor>& of_outputs, const std::vector<Tensor>& of_inputs,
               const std::vector<Tensor>& of_saved)
      : outputs(of_outputs), inputs(of_inputs), saved(of_saved) {}
  int64_t handles(const Tensor& tensor) const;
  Tensor arrived(size_t i, DType dtype) const;
  Tensor stand_in(size_t i, DType dtype) const;
  void finish() const;

  mutable std::vector<Tensor> converted_;                     // gradients that arrived, in the dtype that was asked for
  mutable std::vector<std::pair<size_t, Tensor>> stand_ins_;  // by the input whose gradient they are to be added to
};

/// Scoped: operations are recorded from construction to destruction. Where tapes nest, the innermost alone records. Without one nothing is
/// recorded and nothing is kept. Belongs to the thread that made it.
class Tape {
 public:
  using Backward = std::function<void(const BackwardStep&)>;  // runs once; writes through the step's sinks

  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Gradients of the scalar `output` (seeded with 1) for every leaf that wants one. Gradients add up over calls until they are
  /// cleared. Each recorded step is destroyed after it ran, so activations return to the allocator on the way, and so is each that leads
  /// elsewhere: a second call needs another forward pass, and losses that share one are added up first. If a step throws, the tape is
  /// empty, and the leaves' gradients count as not written. Throws InvalidArgument for an output that this tape has not recorded.
  void backward(const Tensor& output);
  /// Likewise for an output of any shape, given the gradient that arrives at it: same shape and dtype.
  void backward(const Tensor& output, const Tensor& doutput);

  /// Number of steps recorded and not yet run.
  size_t size() const { return steps_.size(); }

  /// The innermost tape of this thread, or nullptr.
  static Tape* active();

 private:
  friend class TapeObserver;
  struct Step {
    const char* op;
    std::vector<Tensor> outputs, inputs, saved;
    Backward backward;
    int64_t index = 0;  // of the operation, counting those of which no gradient is wanted too
  };
  friend void record(const char*, const Tensor&, std::initializer_list<Tensor>, std::initializer_list<Tensor>,
                     Tape::Backward);
  friend void record(const char*, std::initializer_list<Tensor>, std::initializer_list<Tensor>,
                     std::initializer_list<Tensor>, Tape::Backward);
  friend void record(const char*, const Tensor&, const std::vector<Tensor>&, Tape::Backward);
  friend void record(const char*, const std::vector<Tensor>&, const std::vector<Tensor>&, Tape::Backward);
  void append(Step step);
  bool is_recorded(const Tensor& output) const;
  void run_backward();
  void pop();
  void clear();

  std::vector<Step> steps_;
  std::vector<Tensor> leaves_;  // whose gradients backward writes; forgotten if it throws
  int64_t ops_ = 0;             // that have run while it was active
  Tape* outer_;
  MemoryUseScope memory_{MemoryUse::kActivations};
};

/// Appends a step if a tape is alive and some input wants a gradient; marks `output` as wanting one too.
///   inputs  differentiable arguments, in the order in which BackwardStep numbers them; undefined handles are allowed
///   saved   everything else that `backward` reads through views: it lives until the step ran
/// `backward` must not capture tensors (views and numbers only): ownership is what the two lists say, so memory can be reused.
void record(const char* op, const Tensor& output, std::initializer_list<Tensor> inputs,
            std::initializer_list<Tensor> saved, Tape::Backward backward);
/// Likewise for several outputs: the step runs when a gradient arrived at any of them. Outputs that `backward` reads are saved too.
void record(const char* op, std::initializer_list<Tensor> outputs, std::initializer_list<Tensor> inputs,
            std::initializer_list<Tensor> saved, Tape::Backward backward);
/// Likewise for any number of inputs, with nothing else saved.
void record(const char* op, const Tensor& output, const std::vector<Tensor>& inputs, Tape::Backward backward);

/// Likewise for any number of outputs too.
void record(const char* op, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
            Tape::Backward backward);

/// Whether record() would keep a step with these inputs: for operations that do work of backward's at once.
bool records(std::initializer_list<Tensor> inputs);

/// Whether `tensor` is the only handle to its elements but for that of the recorded operation that made it, if one did, and did not save it:
/// an operation that was given it to keep may then write over them.
bool is_last_handle(const Tensor& tensor);

/// Is told of every operation that runs under a tape on this thread while it lives, forward and backward: for tools that look into a step, such
/// as DetectNonFinite. Where several live, the oldest is told first. It may change the values it is shown; what it throws ends the step.
class TapeObserver {
 public:
  /// What is shown: an operation of the innermost tape.
  struct Operation {
    const char* name;                    // as it was given to record()
    int64_t index;                       // 0, 1, 2… in the order in which they ran under the tape
    const std::vector<Tensor>& outputs;  // computed
    const std::vector<Tensor>& inputs;   // the differentiable arguments; undefined where none was given
  };

  TapeObserver();
  virtual ~TapeObserver();
  TapeObserver(const TapeObserver&) = delete;
  TapeObserver& operator=(const TapeObserver&) = delete;

  /// Whether one lives on this thread. Operations must then have defined every element of a gradient when their step ends: it is looked at.
  static bool present();

  /// The operation has run forward.
  virtual void forward(const Operation& operation) = 0;
  /// It has run backward: those inputs that want a gradient have had it written, or added to.
  virtual void backward(const Operation& operation) = 0;

 private:
  friend class Tape;
  static void tell(void (TapeObserver::*event)(const Operation&), const Tape::Step& step);
  static void tell(TapeObserver* observer, void (TapeObserver::*event)(const Operation&), const Operation& operation);

  TapeObserver* outer_;
};

/// While alive, this thread records nothing.
class NoTape {
 public:
  NoTape();
  ~NoTape();
  NoTape(const NoTape&) = delete;

 private:
  Tape* outer_;
  MemoryUseScope memory_{MemoryUse::kActivations};
};

}  // namespace libtrain
