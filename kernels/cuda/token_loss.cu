// Shapes    row_loss, targets [rows]; everything else one element.
// Mapping   sum_losses: one block; a thread strides over the rows. The others: one thread of one warp.
// Traffic   sum_losses reads row_loss and targets once: 8 bytes a row, a few microseconds where the losses themselves take hundreds.
// Numerics  Sums in f32 (f64 for f64): rows / 1024 in a thread, then a tree; the order follows from the number of rows. Counts in i64.
// Measured  docs/kernels.md.
#include "kernels/token_loss.h"

#include "kernels/cuda/common.cuh"

namespace libtrain::kernels {
namespace {

constexpr int kSumThreads = 1024;

/// sum of the losses and count of the targets that are not ignored, by one block.
template <class T> __global__ void __launch_bounds__(kSumThreads) sum_losses_kernel(LossSum<T> k) {
  using A = accum_t<T>;
  const int64_t rows = k.row_loss.dims[0];
  A sum = 0;
  int64_t count = 0;
#pragma unroll 4
  for (int64_t row = threadIdx.x; row < rows; row += kSumThreads) {
    sum += A(k.row_loss.data[row]);
    count += k.targets.data[row] != k.ignore_index;
  }
  sum = block_reduce<Sum, kSumThreads>(sum);
  count = block_reduce<Sum, kSumThreads>(count);
  if (threadIdx.x != 0) return;
  *k.sum.data = T(sum);
  *k.count.data = count;
}

/// mean = sum / count, or 0.
template <class T> __global__ void __launch_bounds__(kWarp)
    mean_forward_kernel(const T* sum, const int64_t* count, T* mean) {
  using A = accum_t<T>;
  if (threadIdx.x == 0) *mean = T(*count > 0 ? A(*sum) / A(*count) : A(0));
}

/// dsum (+)= dmean / count, or 0.
template <class T> __global__ void __launch_bounds__(kWarp)
    mean_backward_kernel(const int64_t* count, const T* dmean, Sink<T> dsum) {
  using A = accum_t<T>;
  if (threadIdx.x == 0) put(*dsum.data, *count > 0 ? A(*dmean) / A(*count) : A(0), dsum.accumulate);
}

/// Adds sum and count to the totals of the update to come.
template <class T> __global__ void __launch_bounds__(kWarp)
    accumulate_kernel(const T* sum, const int64_t* count, StepState* state) {
  if (threadIdx.x != 0) return;
  state->batch_loss_sum = double(accum_t<T>(*sum));
  state->batch_loss_count = *count;
  state->loss_sum += state->batch_loss_sum;
  state->loss_count += state->batch_loss_count;
}

LaunchShape one_warp() { return {1, kWarp}; }

}  // namespace

template <class T> void sum_losses(Cuda where, const LossSum<T>& k) {
  launch(where, "sum_losses", {1, kSumThreads}, sum_losses_kernel<T>, k);
}

template <class T> void mean_loss_forward(Cuda where, View<const T> sum, View<const int64_t> count, View<T> mean) {
  launch(where, "mean_loss_forward", one_warp(), mean_forward_kernel<T>, sum.data, count.data, mean.data);
}

template <class T> void mean_loss_backward(Cuda where, View<const int64_t> count, View<const T> dmean, Sink<T> dsum) {
  launch(where, "mean_loss_backward", one_warp(), mean_backward_kernel<T>, count.data, dmean.data, dsum);
}

template <class T>
void accumulate_loss(Cuda where, View<const T> sum, View<const int64_t> count, View<StepState> state) {
  launch(where, "accumulate_loss", one_warp(), accumulate_kernel<T>, sum.data, count.data, state.data);
}

#define INSTANTIATE(T)                                                                 \
  template void sum_losses(Cuda, const LossSum<T>&);                                   \
  template void mean_loss_forward(Cuda, View<const T>, View<const int64_t>, View<T>);  \
  template void mean_loss_backward(Cuda, View<const int64_t>, View<const T>, Sink<T>); \
  template void accumulate_loss(Cuda, View<const T>, View<const int64_t>, View<StepState>);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
