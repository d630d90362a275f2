/// Finding what is not finite (NaN or infinite): in a tensor, in the operations of a training step, in the gradients of an update.
///
///   DetectNonFinite detect(parameters);   // slow: every value is looked at, and on a CUDA device waited for
///   loop.run();                           // throws Diverged at the first operation that makes one, naming it
///
/// A TrainLoop needs no such scope to be safe: an update that is not finite changes nothing, and the loop then repeats its mini-batches under
/// observation, once, to tell where it came from.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "libtrain/parameters.h"
#include "libtrain/tape.h"

namespace libtrain {

/// Elements that are not finite.
struct NonFiniteCount {
  int64_t nan = 0;       // NaN
  int64_t infinite = 0;  // of either sign

  /// Whether there are any.
  explicit operator bool() const { return nan + infinite > 0; }
  /// "2 NaN, 0 infinite"
  std::string str() const;
};

/// Counts them, on the tensor's device, for which it waits. None in a tensor of integers.
NonFiniteCount count_nonfinite(const Tensor& tensor);

/// The first operation of a step that made a value that is not finite.
struct NonFiniteOperation {
  std::string name;       // as it is recorded: "linear"
  int64_t index = 0;      // 0, 1, 2… in the order in which operations ran forward
  bool backward = false;  // whether it made it in backward
  std::string tensor;     // which of its tensors: "output 0" or "gradient of input 2", with dtype and shape
  NonFiniteCount count;   // in that tensor
  std::string parameter;  // its first argument that is a parameter; "" if there is none
  std::string cause;      // its argument that was not finite before, so that it is not to blame; "" if there is none

  /// A sentence without a full stop.
  std::string str() const;
};

/// A parameter whose gradient is not finite.
struct NonFiniteParameter {
  std::string name;      // in the store
  NonFiniteCount count;  // of its gradient
};

/// Why an update changed nothing, and what was done about it.
struct NonFiniteReport {
  int64_t update = 0;        // its number, as StepReport::updates counts
  int64_t epoch = 0;         // counted from 0
  int64_t batch = 0;         // the first mini-batch of the update, within the epoch, counted from 0
  int64_t batches = 1;       // how many it has
  double loss = 0;           // mean per target of the last of them
  double gradient_norm = 0;  // of the mean loss
  /// The first operation that is not finite, and the parameters whose gradients are not, in the order of the store. Neither is there when all is
  /// finite as the mini-batches are repeated: then something that was not repeated made it, such as an on_update handler.
  std::optional<NonFiniteOperation> operation;
  std::vector<NonFiniteParameter> parameters;  // likewise
  std::string failure;                         // why the mini-batches could not be repeated; "" when they could
  int64_t in_a_row = 1;   // updates that were not finite, this one included: see TrainOptions::nonfinite_limit
  bool rewound = false;   // by TrainOptions::rewind
  bool diverged = false;  // the limit is reached: the loop throws Diverged next

  /// A sentence for the log, without a full stop.
  std::string str() const;
};

/// While alive, everything that operations compute under a tape on this thread is looked at, and the first that is not finite throws Diverged
/// naming operation, tensor and parameter. For debugging (compare torch.autograd.detect_anomaly).
class DetectNonFinite : public TapeObserver {
 public:
  /// Knows the names of the parameters of a store, which must outlive it.
  explicit DetectNonFinite(const Parameters& parameters) : parameters_(parameters) {}

  void forward(const Operation& operation) override;
  void backward(const Operation& operation) override;

 protected:
  /// What is done about the first one: throws Diverged. Not called again after it returns.
  virtual void found(NonFiniteOperation operation);

 private:
  void look(const Operation& operation, bool backward, const std::string& tensor, const Tensor& values);

  const Parameters& parameters_;
  bool done_ = false;
};

/// Fills in what repeating the mini-batches of an update shows: calls repeat(0), repeat(1)… for each of them, which must compute its gradients
/// once more, with the same random bits. Leaves no gradients behind.
void examine_nonfinite(const Parameters& parameters, NonFiniteReport& report,
                       const std::function<void(int64_t)>& repeat);

/// Throws Diverged, with what to do about it.
[[noreturn]] void throw_diverged(const NonFiniteReport& report);

}  // namespace libtrain
