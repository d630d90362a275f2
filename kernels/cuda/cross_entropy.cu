// Shapes    logits, dlogits [rows, vocab]; targets, lse, loss [rows].
// Mapping   Forward: a row belongs to a warp, to 256, 512 or 1,024 threads, by its length. Each thread holds up to 8 packs of 16 bytes of it in
//           registers: rows of 64 Ki bf16 or 32 Ki f32 are read once. Longer rows, and all of f64, are read twice. Rows begin
//           at any address: packs lie between the first and the last multiple of 16 bytes, the few elements outside have a thread each.
//           Backward: elementwise; a row belongs to a warp, or to a block of 256 threads for each 1,024 packs (65,535 blocks at most).
// Traffic   Forward reads the logits once (long rows: twice, the second time as far as the L2 cache has kept them), backward reads
//           them and writes dlogits: 3 x rows x vocab; 2 where forward writes the gradients from its registers. Bound by memory, forward
//           of bf16 by its instructions as much; one exponential an element each way.
// Numerics  Relative to the largest logit, which is found first. Exponentials by exp_for. Sums in f32 (f64 for f64) in an order that
//           follows from the shape and from the address of the logits modulo 16. The gradient is rounded once.
// Source    Szegedy et al., CVPR 2016 (label smoothing); keeping the row and finding its maximum first, not online: QuACK.
// Measured  docs/kernels.md.
#include "kernels/cross_entropy.h"

#include <algorithm>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/math.cuh"

namespace libtrain::kernels {
namespace {

constexpr int kRowPacks = 8;  // that a thread holds, of each precision but f64
constexpr uint32_t kTwoMinusInfinities = 0xFF80FF80u;  // of bf16

/// A row of any length from any address: `packs` packs between multiples of 16 bytes, and fewer than two packs of elements at its ends.
template <class T> struct Row {
  static constexpr int kSize = Pack<T>::kSize;
  const T* data;
  int columns, head, packs;  // classes are numbered in 32 bits

  __device__ Row(const T* row, int64_t length) : data(row), columns(int(length)) {
    const int before = int(-reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
    head = before < columns ? before : columns;
    packs = (columns - head) / kSize;
  }
  __device__ int column_of(int pack) const { return head + pack * kSize; }
  __device__ Pack<T> operator[](int pack) const { return load_pack(data + column_of(pack)); }
  /// The column of the element at an end that is the thread's, or -1. Groups of a warp or more have threads enough.
  __device__ int end_column(int thread) const {
    const int column = thread < head ? thread : packs * kSize + thread;
    return column < columns ? column : -1;
  }
};

/// What one of `group` threads sees of a row: `kept` packs in registers, or with 0 any number of them, read anew each time.
template <class T, int group, int kept> struct RowShare {
  Row<T> row;
  int thread;
  uint4 raw[kept + !kept];
  accum_t<T> end;

  __device__ RowShare(const Row<T>& whole, int me) : row(whole), thread(me) {
    const int column = row.end_column(thread);
    if (column >= 0) end = accum_t<T>(row.data[column]);
#pragma unroll
    for (int i = 0; i < kept; ++i)
      if (i * group + thread < row.packs) raw[i] = load_16(row.data + row.column_of(i * group + thread));
  }

  /// each(pack, its first column)
  template <class F> __device__ void for_packs(const F& each) const {
    if constexpr (kept > 0) {
#pragma unroll
      for (int i = 0; i < kept; ++i) {
        const int pack = i * group + thread;
        if (pack < row.packs) each(unpacked<T>(raw[i]), row.column_of(pack));
      }
    } else {
#pragma unroll 1
      for (int i = thread; i < row.packs; i += group) each(row[i], row.column_of(i));
    }
  }
  template <class F> __device__ void for_values(const F& each) const {
    if (row.end_column(thread) >= 0) each(end);
    for_packs([&](const Pack<T>& pack, int) {
#pragma unroll
      for (int j = 0; j < Pack<T>::kSize; ++j) each(pack.at[j]);
    });
  }
  /// The largest value, or -inf. NaN does not show.
  __device__ accum_t<T> largest() const {
    using A = accum_t<T>;
    A most = Max::identity<A>();
    if constexpr (kept > 0 && sizeof(T) == 2) {
      if (row.end_column(thread) >= 0) most = end;
      uint32_t pair = kTwoMinusInfinities;
#pragma unroll
      for (int i = 0; i < kept; ++i) {
        if (i * group + thread >= row.packs) continue;
        const uint32_t first = ptx::max_bf16(raw[i].x, raw[i].y), second = ptx::max_bf16(raw[i].z, raw[i].w);
        pair = ptx::max_bf16(pair, ptx::max_bf16(first, second));
      }
      return CudaMath::max(most, CudaMath::max(detail::low_half(pair), detail::high_half(pair)));
    } else {
      for_values([&](A x) { most = CudaMath::max(most, x); });
      return most;
    }
  }
};

/// Of a label that is smoothed: what goes to all classes together, to each of them, and to the target beside that. Made on the host, for
/// lack of registers.
template <class A> struct Label {
  A all, each, target;

  Label(double smoothing, int64_t classes)
      : all(A(smoothing)), each(A(smoothing) / A(classes)), target(1 - A(smoothing)) {}
};

/// dlogits of one row: dsum (exp(x - lse) - label), or 0 where the row does not count.
template <class T> struct RowGradient {
  using A = accum_t<T>;
  A dsum, lse;
  Label<A> label;
  int target;  // -1: the row does not count

  /// Logits of neighbouring columns, the first of them `first`, become their gradients. Whether the target is among them is asked once.
  template <int width> __device__ void apply(A (&x)[width], int first) const {
    if (target < 0) {
#pragma unroll
      for (int j = 0; j < width; ++j) x[j] = 0;
      return;
    }
#pragma unroll
    for (int j = 0; j < width; ++j) x[j] = exp_for<T>(x[j] - lse) - label.each;
    if (target >= first && target < first + width) {
#pragma unroll
      for (int j = 0; j < width; ++j) x[j] = first + j == target ? x[j] - label.target : x[j];
    }
#pragma unroll
    for (int j = 0; j < width; ++j) x[j] *= dsum;
  }
  __device__ A operator()(A x, int column) const {
    A one[1] = {x};
    apply(one, column);
    return one[0];
  }
};

/// Loss of one row by its group, for the first of its threads, and lse for all. The row may be written over afterwards.
template <class T, int group, int kept> __device__ accum_t<T> row_loss(const RowShare<T, group, kept>& share,
                                                                       int target, const Label<accum_t<T>>& label,
                                                                       accum_t<T>& lse) {
  using A = accum_t<T>;
  const A at_target = share.thread == 0 ? A(share.row.data[target]) : A(0);
  if constexpr (group == kWarp) __syncwarp();  // as larger groups do below
  const A most = group_reduce<MaxNumber, group>(share.largest());  // a NaN shows in the sum
  constexpr bool kApart = kept > 0 && sizeof(T) == 2;  // where adding up what smoothing alone asks for would be felt
  A exponentials = 0, differences = 0;
  share.for_values([&](A x) {
    exponentials += exp_for<T>(x - most);
    if constexpr (!kApart) differences += x - most;
  });
  const A log_sum = CudaMath::log(group_reduce<Sum, group>(exponentials));
  const A loss = log_sum - (at_target - most);
  lse = most + log_sum;
  if (label.all == 0) return loss;  // and not multiplied by zero, which would make a NaN of the -inf that masks a class
  if constexpr (kApart) share.for_values([&](A x) { differences += x - most; });
  differences = group_reduce<Sum, group>(differences);
  return label.target * loss + label.all * (log_sum - differences / A(share.row.columns));
}

/// The gradients of a row in its place, by its group.
template <class T, int group, int kept>
__device__ void write_gradient(const RowShare<T, group, kept>& share, const RowGradient<T>& gradient, T* dx) {
  const int end = share.row.end_column(share.thread);
  if (end >= 0) dx[end] = T(gradient(share.end, end));
  share.for_packs([&](Pack<T> pack, int first) {
    gradient.apply(pack.at, first);
    store_pack(dx + first, pack);
  });
}

template <int group> constexpr int kThreads = group == kWarp ? 128 : group;

/// Loss and lse (or gradients) of the rows, a row for each `group` threads. Ignored and impossible targets give 0.
template <class T, int group, int kept> __global__ void __launch_bounds__(kThreads<group>, 1024 / kThreads<group>)
    forward_kernel(CrossEntropy<T> k, Label<accum_t<T>> label, accum_t<T>* loss, T* dlogits, BadIndex* note) {
  using A = accum_t<T>;
  const int64_t rows = k.logits.dims[0], vocab = k.logits.dims[1];
  const int thread = threadIdx.x % group;
  const int64_t row = blockIdx.x * int64_t(kThreads<group> / group) + threadIdx.x / group;
  if (row >= rows) return;
  const int target = k.targets.data[row];
  const bool counts = target >= 0 && target < vocab && target != k.ignore_index;
  if (thread == 0 && !counts && target != k.ignore_index)
    note_bad_index(note, {BadIndex::kCrossEntropy, -1, row, target, vocab});
  A of_row = 0, lse = 0;
  if (counts || dlogits) {
    const RowShare<T, group, kept> share({k.logits.data + row * vocab, vocab}, thread);
    if (counts) of_row = row_loss(share, target, label, lse);
    const RowGradient<T> gradient{1, lse, label, counts ? target : -1};
    if (dlogits) write_gradient(share, gradient, dlogits + row * vocab);
  }
  if (thread != 0) return;
  loss[row] = of_row;
  if (k.lse.data) k.lse.data[row] = lse;
}

template <class T, int group, int kept>
void forward_by(Cuda where, const CrossEntropy<T>& k, accum_t<T>* loss, T* dlogits) {
  launch(where, "cross_entropy_forward", {blocks_for(k.logits.dims[0], kThreads<group> / group), kThreads<group>},
         forward_kernel<T, group, kept>, k, Label<accum_t<T>>(k.label_smoothing, k.logits.dims[1]), loss, dlogits,
         where.bad_index);
}

/// The part of a row that falls to `thread` of `threads`; dx may be the row itself. Packs are written whole where dx lies as x does.
template <class T> __device__ void row_backward(const Row<T>& x, const RowGradient<T>& gradient, Sink<T> dx, int thread,
                                                int threads, bool alike) {
  const int end = thread < kWarp ? x.end_column(thread) : -1;
  if (end >= 0) put(dx.data[end], gradient(accum_t<T>(x.data[end]), end), dx.accumulate);
  for (int i = thread; i < x.packs; i += threads) {
    const int first = x.column_of(i);
    Pack<T> pack = x[i];
    gradient.apply(pack.at, first);
    if (alike) {
      put_pack(dx.data + first, pack, dx.accumulate);
    } else {
#pragma unroll
      for (int j = 0; j < Pack<T>::kSize; ++j) put(dx.data[first + j], pack.at[j], dx.accumulate);
    }
  }
}

constexpr unsigned kMostBlocksOfRow = 65535;  // gridDim.y is no larger

/// dlogits of the rows, a row for each `group` threads of each of gridDim.y blocks. (One block: left alone ptxas takes 48 registers for f64, and
/// spills.)
template <class T, int group> __global__ void __launch_bounds__(kThreads<group>, 1)
    backward_kernel(CrossEntropy<T> k, Label<accum_t<T>> label, const accum_t<T>* dsum, Sink<T> dlogits) {
  const int64_t rows = k.logits.dims[0], vocab = k.logits.dims[1];
  const int64_t row = blockIdx.x * int64_t(kThreads<group> / group) + threadIdx.x / group;
  if (row >= rows) return;
  const int target = k.targets.data[row];
  const bool counts = target >= 0 && target < vocab && target != k.ignore_index;
  if (!counts && dlogits.accumulate) return;
  const RowGradient<T> gradient{*dsum, k.lse.data[row], label, counts ? target : -1};
  const T* x = k.logits.data + row * vocab;
  T* dx = dlogits.data + row * vocab;
  const bool alike = (reinterpret_cast<uintptr_t>(x) - reinterpret_cast<uintptr_t>(dx)) % 16 == 0;
  row_backward(Row<T>(x, vocab), gradient, Sink<T>{dx, dlogits.accumulate}, blockIdx.y * group + threadIdx.x % group,
               int(gridDim.y) * group, alike);
}

}  // namespace

template <class T>
void cross_entropy_forward(Cuda where, const CrossEntropy<T>& k, View<accum_t<T>> loss, View<T> dlogits) {
  constexpr int kKept = sizeof(T) < 8 ? kRowPacks : 0;
  const int64_t packs = k.logits.dims[1] / Pack<T>::kSize;  // at least as many as lie between multiples of 16 bytes
  if (packs <= kWarp * kRowPacks)
    forward_by<T, kWarp, kKept>(where, k, loss.data, dlogits.data);
  else if (packs <= 256 * kRowPacks)
    forward_by<T, 256, kKept>(where, k, loss.data, dlogits.data);
  else if (packs <= 512 * kRowPacks)  // two blocks on a multiprocessor: one loads while the other sums
    forward_by<T, 512, kKept>(where, k, loss.data, dlogits.data);
  else if (packs <= 1024 * kRowPacks)
    forward_by<T, 1024, kKept>(where, k, loss.data, dlogits.data);
  else
    forward_by<T, 1024, 0>(where, k, loss.data, dlogits.data);
}

template <class T>
void cross_entropy_backward(Cuda where, const CrossEntropy<T>& k, View<const accum_t<T>> dsum, Sink<T> dlogits) {
  const int64_t rows = k.logits.dims[0], packs = k.logits.dims[1] / Pack<T>::kSize;
  const Label<accum_t<T>> label(k.label_smoothing, k.logits.dims[1]);
  if (packs <= kWarp * kRowPacks) {
    launch(where, "cross_entropy_backward", {blocks_for(rows, kThreads<kWarp> / kWarp), kThreads<kWarp>},
           backward_kernel<T, kWarp>, k, label, dsum.data, dlogits);
  } else {
    const dim3 grid(blocks_for(rows, 1), std::min(blocks_for(packs, 256 * 4), kMostBlocksOfRow));
    launch(where, "cross_entropy_backward", {grid, 256}, backward_kernel<T, 256>, k, label, dsum.data, dlogits);
  }
}

#define INSTANTIATE(T)                                                                          \
  template void cross_entropy_forward(Cuda, const CrossEntropy<T>&, View<accum_t<T>>, View<T>); \
  template void cross_entropy_backward(Cuda, const CrossEntropy<T>&, View<const accum_t<T>>, Sink<T>);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
