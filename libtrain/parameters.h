/// Everything that training changes: values, gradients, the optimizer's moments, step counters and the random state, in flat buffers.
#pragma once
#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/philox.h"
#include "kernels/step_state.h"
#include "kernels/update_factors.h"
#include "libtrain/init.h"
#include "libtrain/tensor.h"

namespace libtrain {

/// How a store keeps its parameters. All of it is fixed for the store's life.
struct ParametersOptions {
  DType dtype = DType::f32;  // of values, gradients and moments: f32, or f64 for tests
  /// Mixed precision: operations get the values rounded to bf16 (and so compute in bf16), while values, gradients and moments stay f32.
  bool mixed_precision = false;
  Device device = Device::kCpu;  // of all buffers
  uint64_t seed = 1;             // of the initial values and of dropout
  bool average = false;  // keep a running average of the values, in a buffer of its own: see optim/moving_average.h
};

/// What differs for some parameters from what the optimizer is told for all. What is not given stays as it was.
struct GroupOptions {
  std::optional<double> rate{};   // factor on the learning rate, > 0. Default 1
  std::optional<double> decay{};  // factor on the weight decay, >= 0. Default 1
};

/// Whose state a store's moments are, and how many of them it keeps: for checkpoints, and so that no other optimizer takes them for its own.
struct OptimizerInfo {
  /// "adam", "sgd"; one of your own wants a name of its own, since only the same name goes on from a checkpoint. Default "own".
  std::string name = "own";
  /// How many of the two moments: 0, 1 or 2. Default 2.
  int64_t moments = 2;
  /// Hyper-parameters by name. Checkpoints tell them to people; a resumed run may have others.
  std::vector<std::pair<std::string, double>> options{};
};

/// "<module>.<name>", or for the module "" the name alone, as in a file that holds one module.
inline std::string join_name(const std::string& module, const std::string& name) {
  return module.empty() ? name : module + "." + name;
}

/// The store that modules register their parameters in. Each is a named slice of one flat buffer per kind (value, gradient, and the
/// moments that its optimizer keeps), so that one kernel launch serves all. Not thread-safe; one training loop at a time per store.
/// A const store has a fixed set of parameters; what the buffers hold, and whether moments are kept, may change.
class Parameters {
 public:
  using Options = ParametersOptions;  // what the constructor takes

  /// One parameter and its place in the store.
  struct Slot {
    std::string name;            // as it was registered
    Tensor value;                // what operations use; its gradient is the slice of gradients()
    Tensor master;               // the slice of values(): `value` itself, unless that is its rounding to bf16
    int64_t offset;              // in elements, from the start of each flat buffer
    UpdateFactors factors = {};  // set_group()'s
    bool frozen = false;         // by freeze(): then `value` wants no gradient
  };
  /// Which parameters are meant: true for those.
  using Filter = std::function<bool(const Slot&)>;

  /// An empty store. Throws InvalidArgument for a dtype other than f32 and f64, and for mixed precision of f64.
  explicit Parameters(Options options = {});
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  /// Registers a parameter and returns its tensor, which wants a gradient (with mixed precision: bf16, with a gradient in f32). Names are unique, e.g. "encoder.layers.0.linear1.weight".
  /// Registering moves the buffers, so do it before any forward pass whose gradients are still to come.
  Tensor add(const std::string& name, const Shape& shape, const Initializer& initializer);
  /// Releases what is kept free for further parameters, at most as much as the parameters take, and cached memory of both devices. Moves the
  /// buffers, as registering does. TrainLoop and plan_memory call it first.
  void shrink_to_fit();
  /// The parameter of that name; throws InvalidArgument suggesting the closest name.
  Tensor get(std::string_view name) const;
  /// Whether a parameter of that name is registered.
  bool contains(std::string_view name) const;

  /// In order of registration.
  const std::vector<Slot>& slots() const { return slots_; }
  /// Elements of all parameters, without the gaps that align them.
  int64_t count() const;
  /// A line for each parameter, with name, shape and number of elements, and one for their sum.
  std::string str() const;

  /// Starts the parameters that `filter` chooses once more, with another initializer. Throws InvalidArgument when none is chosen.
  void reset(const Filter& filter, const Initializer& initializer);
  /// Gives the parameters of this store the values that `from` has under the same names, whatever its dtype and device, or under the
  /// name that `name_there` returns for a name of this store; those for which it returns "" stay as they are. Throws InvalidArgument
  /// listing what is missing there or of another shape; nothing is changed then.
  void copy_values(const Parameters& from, const std::function<std::string(const std::string&)>& name_there = {});

  /// The flat buffers, [flat_size()]; slices start at multiples of 256 bytes, gaps are and stay zero.
  Tensor values() const { return values_.rows(0, used_); }
  /// Laid out as values(): of the summed loss, since clear_gradients(); a slice that no one has written yet holds anything.
  Tensor gradients() const { return gradients_.rows(0, used_); }
  /// Laid out as values(), beginning as 0: what an optimizer keeps for each value. Number 0 or 1; takes memory from when it is first asked
  /// for (or set_optimizer() has), which must not be while work is captured.
  Tensor moment(int64_t number) const;
  /// Number 0: Adam's running mean of the gradients, or the velocity of SGD.
  Tensor first_moment() const { return moment(0); }
  /// Number 1: Adam's running mean of the squared gradients. SGD has none.
  Tensor second_moment() const { return moment(1); }
  /// How many moments are there: 0, 1 or 2.
  int64_t moments() const;
  /// Makes those below `count` that are not there, and gives back the memory of all others, with what they held.
  void keep_moments(int64_t count) const;

  /// Whose the moments are: of the last TrainLoop, or of the checkpoint that was loaded. Nothing while nobody has said.
  const std::optional<OptimizerInfo>& optimizer() const { return optimizer_; }
  /// Says whose the moments are to be, and keeps as many, as TrainLoop does. Throws InvalidArgument when they are those of an optimizer of
  /// another name.
  void set_optimizer(const OptimizerInfo& optimizer) const;
  /// Lets go of the moments and of whose they were, and counts updates from 0 again: another optimizer may then begin from these weights.
  void forget_optimizer();

  /// Elements of each flat buffer, with the gaps.
  int64_t flat_size() const { return used_; }
  /// The values rounded to bf16, [flat_size()]; undefined without mixed precision. The optimizer keeps them up to date.
  Tensor rounded_values() const { return options_.mixed_precision ? rounded_.rows(0, used_) : Tensor(); }
  /// Rounds all values once more, after they have been changed by something else. Without mixed precision nothing is to be done.
  void round_values() const;

  /// The running average, [flat_size()]; undefined unless Options::average asks for it. Begins as the initial values.
  Tensor average() const { return options_.average ? average_.rows(0, used_) : Tensor(); }
  /// Exchanges values and average, so that all tensors of the store show the other ones. See optim/moving_average.h.
  void swap_average();
  /// Throws InvalidArgument naming `op` while values and average are exchanged: for what trains or saves the state of a run.
  void check_shows_values(const char* op) const {
    LIBTRAIN_CHECK(!swapped_, "[{}] the store shows the average of its weights; let {} go first", op,
                   "AveragedWeights");
  }

  /// Sets rate and decay of the parameters that `filter` chooses; may be called again for others, or for the same. Checkpoints tell them, but do
  /// not bring them back: a program sets its groups when it builds its model. Throws InvalidArgument for a factor out of range, or when no
  /// parameter is chosen.
  void set_group(const Filter& filter, const GroupOptions& options);
  /// Parameters that are chosen keep their values, whatever the optimizer: no gradient is computed for them, they do not count in the norm,
  /// and their moments stand still until they are unfrozen. Throws InvalidArgument when no parameter is chosen.
  void freeze(const Filter& filter) { set_frozen(filter, true); }
  /// Undoes freeze() for those chosen; likewise throws when there are none.
  void unfreeze(const Filter& filter) { set_frozen(filter, false); }
  /// For kernels, one entry per kUpdateUnit elements of the flat buffers; no view while all parameters are treated alike.
  View<const UpdateFactors> update_factors() const;

  /// Changes whenever kernels would be given other arguments: when parameters are added or frozen, buffers move, groups are set, moments made, or
  /// values and average exchanged (exchanged back, it is the number of before).
  int64_t revision() const { return 2 * changes_ + swapped_; }

  /// The slice of `flat` (one of the buffers above) that belongs to a slot, in the slot's shape.
  Tensor slice(const Tensor& flat, const Slot& slot) const;

  /// Forgets all gradients: the next backward overwrites them.
  void clear_gradients() const;
  /// Fills the gradients that no one has written since clear_gradients with zero. Before norm and optimizer.
  void zero_unwritten_gradients() const;
  /// Declares all gradients written.
  void mark_gradients_written() const;
  /// Likewise after the buffer was filled from a checkpoint: those of frozen parameters, which do not count, become zero.
  void adopt_gradients() const;

  /// RandomState as i64[2] on the store's device, for kernels.
  const Tensor& random_state() const { return random_state_; }
  /// The StepState, for kernels too: f64[10] is the type of its ten words, not of what they hold. See step().
  const Tensor& step_state() const { return step_state_; }
  /// Seed and step, read from the device, for which it waits.
  RandomState random() const;
  /// Replaces both, as a resumed run does.
  void set_random(RandomState state) const;
  /// The step state, read from the device, for which it waits.
  StepState step() const;
  /// The one element of step_state(), as kernels take it.
  View<StepState> step_view() const;
  /// Replaces the step state, as a resumed run does.
  void set_step(const StepState& state) const;
  /// The step that dropout's bits depend on, without waiting for the device. A loop of your own sets it before each forward pass, or every
  /// step drops the same elements.
  void set_random_step(uint64_t step) const;
  /// Forgets the losses of the update to come and what became of the last one, likewise.
  void open_update() const;
  /// The rate of the update to come, likewise.
  void set_learning_rate(double rate) const;

  /// A number for each place that draws random bits (a dropout in a layer): 0, 1, 2… in order of construction.
  uint32_t new_random_stream() { return random_streams_++; }

  /// Of values, gradients and moments: f32 also with mixed precision.
  DType dtype() const { return options_.dtype; }
  /// What f returns with the type of that as its template argument: float or double.
  template <class F> auto visit_dtype(const F& f) const {
    return options_.dtype == DType::f64 ? f.template operator()<double>() : f.template operator()<float>();
  }
  /// Of all buffers.
  Device device() const { return options_.device; }
  /// As given to the constructor.
  const Options& options() const { return options_; }

 private:
  struct Buffer {
    Tensor* flat;
    MemoryUse use;
    DType dtype;
  };
  std::vector<Buffer> buffers();
  Tensor moved(const Buffer& buffer, int64_t capacity) const;
  void grow(int64_t needed);
  std::vector<double> initial_values(const std::string& name, const Shape& shape, const Initializer& initializer) const;
  void bind(const Slot& slot) const;
  void set_value(const Slot& slot, const Tensor& value) const;
  std::vector<Slot*> chosen(const char* caller, const Filter& filter);
  void set_frozen(const Filter& filter, bool frozen);
  DType compute_dtype() const { return options_.mixed_precision ? DType::bf16 : options_.dtype; }

  Options options_;
  std::vector<Slot> slots_;
  Tensor values_, rounded_, gradients_, average_, random_state_, step_state_;
  mutable std::array<Tensor, 2> moments_;  // undefined where none is kept
  mutable std::optional<OptimizerInfo> optimizer_;
  mutable Tensor factors_;  // f32[units, 2]; undefined when it must be made anew
  bool alike_ = true;       // no parameter has factors of its own
  int64_t used_ = 0, capacity_ = 0;
  mutable int64_t changes_ = 0;
  bool swapped_ = false;  // values and average
  uint32_t random_streams_ = 0;
};

}  // namespace libtrain
