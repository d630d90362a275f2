/// What memory a training run will need, told before its first step: a batch that cannot fit is refused then, with the limit that would fit.
///
///   BucketedBatches batches(pairs, {.tokens = 16384, .batch = {.device = Device::kCuda}});
///   const MemoryPlan plan = plan_memory(parameters, batches, [&](const Batch& batch) { return model.loss(batch); });
///   std::puts(plan.str().c_str());
///   plan.check();  // throws OutOfMemory
///   TrainLoop loop(…);
///
/// What a step needs is measured, not guessed: forward and backward are run on a few made-up batches, the largest of them half as large as the
/// largest that the run will see, and what the allocator says is carried on along a straight line. That holds because every operation needs
/// memory in proportion to tokens (attention too), but for workspace that stops growing.
#pragma once
#include <functional>
#include <string>

#include "libtrain/data/batch_source.h"
#include "libtrain/ops/token_loss.h"
#include "libtrain/parameters.h"

namespace libtrain {

/// Which part of a run is planned for, and with how much memory.
struct MemoryPlanOptions {
  /// The largest batch of epochs 0 to epochs - 1 counts, but of no more epochs than make a million pairs, which takes a second. >= 1.
  int64_t epochs = 1;
  /// Bytes that tensors may take on the device. 0, the default: those they have and those that are free.
  int64_t limit = 0;
  /// Moments that the optimizer of the run keeps (OptimizerInfo::moments), as far as the store has not got them yet. Default 2: adam().
  int64_t moments = 2;
};

/// Bytes on the device of the parameters, rounding up by the allocator not counted.
struct MemoryPlan {
  Device device = Device::kCpu;                       // of the parameters
  int64_t weights = 0, gradients = 0, optimizer = 0;  // of all stores of the process, and the moments to come
  int64_t other = 0;                                  // tensors that the program holds besides
  int64_t batches = 0;                                // those that exist at a time: with prefetch on the CPU several
  int64_t activations = 0;  // what forward and backward of the largest batch need at most, with workspace
  int64_t available = 0;    // what there is for all of that
  BatchSize largest = {};   // the largest batch of the run
  int64_t longest = 0;      // the longest sequence of the run, on either side: no limit on tokens can be below
  /// The largest BucketedBatchesOptions::tokens with which the peak stays below `available` by margin(); 0 when that is below `longest`.
  int64_t tokens_that_fit = 0;

  /// Most that is in use at a time.
  int64_t peak() const { return weights + gradients + optimizer + other + batches + activations; }
  /// How far a step's measured peak may be from peak(), either way: a tenth, and at least 16 MiB, for small batches have
  /// workspace that is still growing.
  int64_t margin() const;
  /// Whether the run may fit. Only what cannot fit by more than margin() does not.
  bool fits() const { return peak() - margin() <= available; }
  /// Throws OutOfMemory unless it fits, telling what is needed, what is there, and the limit that would fit as "`setting` 4096".
  void check(const std::string& setting = ".tokens =") const;

  /// A line for each kind of memory and one for the peak.
  std::string str() const;
  /// Likewise in one line: "weights 0.5 + gradients 0.5 + optimizer state 1.0 + activations 12.3 + batches 0.1 = 14.4 MiB peak".
  std::string summary() const;
};

/// Bytes on `device` that tensors of this process have or could still get: what a plan calls available unless a limit is set.
int64_t available_memory(Device device);

/// Plans for a TrainLoop without graphs over `batches` (of which it begins an epoch) that minimises `loss`. The store is shrunk to fit, as
/// TrainLoop will; else nothing of it changes but the contents of its gradients, none of which may be written and none of which is afterwards. The
/// largest probe takes as long as forward and backward of half a batch. Resets the allocator's peak and gives its cached blocks back. Throws InvalidArgument when gradients wait for an
/// update, and what `loss` throws.
MemoryPlan plan_memory(Parameters& parameters, BucketedBatches& batches,
                       const std::function<TokenLoss(const Batch&)>& loss, const MemoryPlanOptions& options = {});

}  // namespace libtrain
