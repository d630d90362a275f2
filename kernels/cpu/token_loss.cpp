#include "kernels/token_loss.h"

#include "kernels/cpu/reductions.h"

namespace libtrain::kernels {
namespace {

/// Rows added up by vector lanes before their sum joins the total: keeps f32 sums of many rows short.
constexpr int64_t kBlock = 512;

}  // namespace

template <Isa isa, class T> void sum_losses(Cpu<isa>, const LossSum<T>& k) {
  const int64_t rows = k.row_loss.size();
  accum_t<T> sum = 0;
  for (int64_t begin = 0; begin < rows; begin += kBlock)
    sum += sum_of(k.row_loss.data + begin, rows - begin < kBlock ? rows - begin : kBlock);
  int64_t count = 0;
  for (int64_t row = 0; row < rows; ++row) count += k.targets.data[row] != k.ignore_index;
  *k.sum.data = T(sum);
  *k.count.data = count;
}

template <Isa isa, class T>
void mean_loss_forward(Cpu<isa>, View<const T> sum, View<const int64_t> count, View<T> mean) {
  using A = accum_t<T>;
  *mean.data = T(*count.data > 0 ? A(*sum.data) / A(*count.data) : A(0));
}

template <Isa isa, class T>
void mean_loss_backward(Cpu<isa>, View<const int64_t> count, View<const T> dmean, Sink<T> dsum) {
  using A = accum_t<T>;
  put(*dsum.data, *count.data > 0 ? A(*dmean.data) / A(*count.data) : A(0), dsum.accumulate);
}

template <Isa isa, class T>
void accumulate_loss(Cpu<isa>, View<const T> sum, View<const int64_t> count, View<StepState> state) {
  StepState& s = *state.data;
  s.batch_loss_sum = double(*sum.data);
  s.batch_loss_count = *count.data;
  s.loss_sum += s.batch_loss_sum;
  s.loss_count += s.batch_loss_count;
}

#define INSTANTIATE(T)                                                                      \
  template void sum_losses(Cpu<kIsa>, const LossSum<T>&);                                   \
  template void mean_loss_forward(Cpu<kIsa>, View<const T>, View<const int64_t>, View<T>);  \
  template void mean_loss_backward(Cpu<kIsa>, View<const int64_t>, View<const T>, Sink<T>); \
  template void accumulate_loss(Cpu<kIsa>, View<const T>, View<const int64_t>, View<StepState>);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
