/// The numbers that change from step to step, in the memory of the device that trains: kernels read and write them there, so that
/// nothing has to come back to the host within a step.
#pragma once
#include <cstdint>

namespace libtrain {

struct StepState {
  int64_t updates = 0;  // optimizer updates applied so far
  /// Updates that changed nothing because loss or gradient was not finite or an index was bad. Those without targets are not counted.
  int64_t skipped_updates = 0;
  double learning_rate = 0;   // of the update to come
  double loss_sum = 0;        // over the mini-batches of the update to come
  int64_t loss_count = 0;     // targets that counted, likewise
  double gradient_norm = 0;   // of the mean loss, before clipping; of the last update
  double gradient_scale = 0;  // what the summed gradient is multiplied by: clip factor / loss_count
  int64_t skip = 0;           // not 0: the update must change nothing; why, see below
  double batch_loss_sum = 0;  // of the last mini-batch alone
  int64_t batch_loss_count = 0;

  /// Values of `skip`. An update that was asked to hold back what follows sets kHolds when it is not finite; then every later one is kHeldBack,
  /// counts nowhere and changes nothing, until the host has looked and sets kUpdates again: it reads the state late, and must find the weights
  /// that the update was not finite with.
  static constexpr int64_t kUpdates = 0, kSkips = 1, kHolds = 2, kHeldBack = 3;
};

}  // namespace libtrain
