// Shapes    x, y, dy, dx [rows, columns].
// Mapping   Rows of whole packs of 16 bytes are held in registers by a warp (up to 1,024 columns; 512 in f64) or a block (4,096; 2,048). Others
//           are read again for each pass, by a warp up to 1,024 columns and by a block beyond. Groups stride over the rows.
// Traffic   Forward reads x and writes y: 2 x size; backward reads y and dy and writes dx: 3 x size. Bound by memory. Rows that are not
//           held are read three times forward and twice backward, the later times as far as the caches have kept them.
// Numerics  f32 (f64 for f64), relative to the row's largest element; sums in an order that depends on the shape and on whether packs fit.
// Measured  docs/kernels.md.
#include "kernels/softmax.h"

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/math.cuh"

namespace libtrain::kernels {
namespace {

constexpr int64_t kWarpColumns = 1024;  // of the longest row that is a warp's

/// Packs of a row that a thread of `group` holds: 32 elements of a warp's row, 16 of a block's; half as many in f64.
template <class T, int group> constexpr int kHeld = (group == kWarp ? 128 : 64) / sizeof(accum_t<T>) / Pack<T>::kSize;

/// A row that its group holds in registers.
template <class T, int group> struct HeldRow {
  static constexpr int kSize = Pack<T>::kSize;
  using Packs = RowPacks<T, group, kHeld<T, group>>;
  Packs packs;
  int thread, columns;

  __device__ HeldRow(const T* row, int64_t length) : thread(threadIdx.x % group), columns(int(length)) {
    packs.load(row, thread, columns);
  }
  /// Calls each(value) for every element of the thread's.
  template <class F> __device__ void for_values(const F& each) const {
    packs.for_packs(thread, columns, [&](int i, int) {
      const Pack<T> pack = packs[i];
#pragma unroll
      for (int j = 0; j < kSize; ++j) each(pack.at[j]);
    });
  }
  template <class F> __device__ void for_pairs(const HeldRow& other, const F& each) const {
    packs.for_packs(thread, columns, [&](int i, int) {
      const Pack<T> pack = packs[i], beside = other.packs[i];
#pragma unroll
      for (int j = 0; j < kSize; ++j) each(pack.at[j], beside.at[j]);
    });
  }
  /// each(value, value of `other`), and what it returns to `to`.
  template <class F> __device__ void map(const HeldRow& other, Sink<T> to, const F& each) const {
    packs.for_packs(thread, columns, [&](int i, int column) {
      Pack<T> pack = packs[i];
      const Pack<T> beside = other.packs[i];
#pragma unroll
      for (int j = 0; j < kSize; ++j) pack.at[j] = each(pack.at[j], beside.at[j]);
      put_pack(to.data + column, pack, to.accumulate);
    });
  }
};

/// A row that is read anew each time.
template <class T, int group> struct ReadRow {
  const T* row;
  int64_t columns;

  __device__ ReadRow(const T* from, int64_t length) : row(from), columns(length) {}
  template <class F> __device__ void for_values(const F& each) const {
    for (int64_t c = threadIdx.x % group; c < columns; c += group) each(accum_t<T>(row[c]));
  }
  template <class F> __device__ void for_pairs(const ReadRow& other, const F& each) const {
    for (int64_t c = threadIdx.x % group; c < columns; c += group) each(accum_t<T>(row[c]), accum_t<T>(other.row[c]));
  }
  template <class F> __device__ void map(const ReadRow& other, Sink<T> to, const F& each) const {
    for (int64_t c = threadIdx.x % group; c < columns; c += group)
      put(to.data[c], each(accum_t<T>(row[c]), accum_t<T>(other.row[c])), to.accumulate);
  }
};

/// y of the rows, of which a group of `group` threads owns one at a time.
template <class Row, int group, class T> __global__ void __launch_bounds__(kBlockThreads) forward_kernel(Softmax<T> k) {
  using A = accum_t<T>;
  constexpr int kGroups = kBlockThreads / group;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1], stride = int64_t(gridDim.x) * kGroups;
  for (int64_t row = blockIdx.x * int64_t(kGroups) + threadIdx.x / group; row < rows; row += stride) {
    const Row x(k.x.data + row * columns, columns);
    A most = Max::identity<A>(), sum = 0;
    x.for_values([&](A value) { most = Max::apply(most, value); });
    most = group_reduce<Max, group>(most);
    x.for_values([&](A value) { sum += CudaMath::exp(value - most); });
    sum = group_reduce<Sum, group>(sum);
    const Sink<T> y{k.y.data + row * columns};
    const A log_sum = CudaMath::log(sum);
    if (k.log)
      x.map(x, y, [&](A value, A) { return value - most - log_sum; });
    else
      x.map(x, y, [&](A value, A) { return CudaMath::exp(value - most) / sum; });
  }
}

/// dx of the rows, likewise.
template <class Row, int group, class T> __global__ void __launch_bounds__(kBlockThreads, 2)
    backward_kernel(SoftmaxGradient<T> k) {
  using A = accum_t<T>;
  constexpr int kGroups = kBlockThreads / group;
  const int64_t rows = k.y.dims[0], columns = k.y.dims[1], stride = int64_t(gridDim.x) * kGroups;
  for (int64_t row = blockIdx.x * int64_t(kGroups) + threadIdx.x / group; row < rows; row += stride) {
    const Row y(k.y.data + row * columns, columns), dy(k.dy.data + row * columns, columns);
    const Sink<T> dx{k.dx.data + row * columns, k.dx.accumulate};
    A sum = 0;
    if (k.log)
      dy.for_values([&](A value) { sum += value; });
    else
      y.for_pairs(dy, [&](A value, A d) { sum += value * d; });
    sum = group_reduce<Sum, group>(sum);
    if (k.log)
      y.map(dy, dx, [&](A value, A d) { return d - CudaMath::exp(value) * sum; });
    else
      y.map(dy, dx, [&](A value, A d) { return value * (d - sum); });
  }
}

/// Calls run.template operator()<Row, group>() with what suits rows of this length at these addresses.
template <class T, class F, class... Data> void for_rows(int64_t columns, const F& run, const Data*... data) {
  const bool packs = columns % Pack<T>::kSize == 0 && aligned_16(data...);
  if (packs && columns <= HeldRow<T, kWarp>::Packs::kColumns)
    run.template operator()<HeldRow<T, kWarp>, kWarp>();
  else if (packs && columns <= HeldRow<T, kBlockThreads>::Packs::kColumns)
    run.template operator()<HeldRow<T, kBlockThreads>, kBlockThreads>();
  else if (columns <= kWarpColumns)
    run.template operator()<ReadRow<T, kWarp>, kWarp>();
  else
    run.template operator()<ReadRow<T, kBlockThreads>, kBlockThreads>();
}

inline LaunchShape rows_shape(int64_t rows, int group) {
  return {persistent_blocks(rows, kBlockThreads / group, 8), kBlockThreads};
}

}  // namespace

template <class T> void softmax_forward(Cuda where, const Softmax<T>& k) {
  for_rows<T>(
      k.x.dims[1],
      [&]<class Row, int group> {
        launch(where, "softmax_forward", rows_shape(k.x.dims[0], group), forward_kernel<Row, group, T>, k);
      },
      k.x.data, k.y.data);
}

template <class T> void softmax_backward(Cuda where, const SoftmaxGradient<T>& k) {
  for_rows<T>(
      k.y.dims[1],
      [&]<class Row, int group> {
        launch(where, "softmax_backward", rows_shape(k.y.dims[0], group), backward_kernel<Row, group, T>, k);
      },
      k.y.data, k.dy.data, k.dx.data);
}

#define INSTANTIATE(T)                                    \
  template void softmax_forward(Cuda, const Softmax<T>&); \
  template void softmax_backward(Cuda, const SoftmaxGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
