/// The scalars of a loss over tokens: the sum of the rows' losses, the number of rows that count, and their quotient.
#pragma once
#include "kernels/dtype.h"
#include "kernels/step_state.h"

namespace libtrain::kernels {

/// sum = sum of row_loss, in an order fixed by the number of rows;  count = number of targets that are not ignore_index
template <class T> struct LossSum {
  View<const T> row_loss;       // [rows], 0 where ignored
  View<const int32_t> targets;  // [rows]
  int64_t ignore_index;
  View<T> sum;          // one element
  View<int64_t> count;  // one element
};

template <Isa isa, class T> void sum_losses(Cpu<isa>, const LossSum<T>&);
template <class T> void sum_losses(Cuda, const LossSum<T>&);

/// mean = sum / count, or 0 when nothing counts. All are one element.
template <Isa isa, class T>
void mean_loss_forward(Cpu<isa>, View<const T> sum, View<const int64_t> count, View<T> mean);
template <class T> void mean_loss_forward(Cuda, View<const T> sum, View<const int64_t> count, View<T> mean);

/// dsum = dmean / count, or 0 when nothing counts.
template <Isa isa, class T>
void mean_loss_backward(Cpu<isa>, View<const int64_t> count, View<const T> dmean, Sink<T> dsum);
template <class T> void mean_loss_backward(Cuda, View<const int64_t> count, View<const T> dmean, Sink<T> dsum);

/// Adds a mini-batch to the update to come: state.loss_sum += sum, state.loss_count += count; keeps its own two numbers as batch_loss_*.
template <Isa isa, class T>
void accumulate_loss(Cpu<isa>, View<const T> sum, View<const int64_t> count, View<StepState> state);
template <class T> void accumulate_loss(Cuda, View<const T> sum, View<const int64_t> count, View<StepState> state);

}  // namespace libtrain::kernels
