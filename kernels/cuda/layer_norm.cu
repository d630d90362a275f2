// Shapes    x, y, dy, dx [rows, columns]; weight, bias, dweight, dbias [columns]; mean, rstd [rows].
// Mapping   Rows of whole packs, by their length: up to 1,024 columns (512 in f64) a warp, up to 4,096 (2,048) a block of 256 threads; both
//           hold the row in registers and walk every so many rows, with weight and bias, or weight and the column sums of backward, in
//           registers too. Other rows: forward and dx by a block a row that reads it again, column sums by a thread a column.
// Traffic   Forward reads x and writes y; backward reads x and dy and writes dx: 2 x size and 3 x size, statistics and partial sums (at most
//           layer_norm_blocks() rows of them) beside that. Other rows: 4 x and 7 x size requested, the repeats from cache. Bound by memory.
// Numerics  f32 (f64 for f64). Variance in two passes: from the mean, not from the sum of squares. Sums in an order that follows from
//           the shape and the number of multiprocessors.
// Source    Ba, Kiros, Hinton, arXiv 1607.06450.
// Measured  Not yet on a device.
#include "kernels/layer_norm.h"

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/partials.cuh"

namespace libtrain::kernels {
namespace {

/// Packs of a row that a thread of `group` holds: 32 elements of a warp's row, 16 of a block's; half as many in f64.
template <class T, int group> constexpr int kPacks = (group == kWarp ? 128 : 64) / sizeof(accum_t<T>) / Pack<T>::kSize;
template <class T, int group> using Part = RowPacks<T, group, kPacks<T, group>>;
constexpr int kGroups(int group) { return kBlockThreads / group; }

/// The rows of a group: every so many from `first` on.
template <int group> __device__ int64_t first_row() {
  return blockIdx.x * int64_t(kGroups(group)) + threadIdx.x / group;
}
template <int group> __device__ int64_t row_stride() { return int64_t(gridDim.x) * kGroups(group); }

template <class T, int group> __device__ accum_t<T> mean_of(const Part<T, group>& x, int thread, int columns) {
  accum_t<T> sum = 0;
  x.for_packs(thread, columns, [&](int i, int) {
    const Pack<T> pack = x[i];
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; ++j) sum += pack.at[j];
  });
  return group_reduce<Sum, group>(sum) / accum_t<T>(columns);
}

/// 1 / sqrt(variance + epsilon)
template <class T, int group>
__device__ accum_t<T> rstd_of(const Part<T, group>& x, accum_t<T> mean, int thread, int columns, double epsilon) {
  using A = accum_t<T>;
  A squares = 0;
  x.for_packs(thread, columns, [&](int i, int) {
    const Pack<T> pack = x[i];
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; ++j) squares += (pack.at[j] - mean) * (pack.at[j] - mean);
  });
  return A(1) / CudaMath::sqrt(group_reduce<Sum, group>(squares) / A(columns) + A(epsilon));
}

/// y, mean and rstd of rows that a group holds in registers.
template <class T, int group> __global__ void __launch_bounds__(kBlockThreads) forward_kernel(LayerNorm<T> k) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0];
  const int columns = int(k.x.dims[1]), thread = threadIdx.x % group;
  Part<T, group> x, weight, bias;
  weight.load(k.weight.data, thread, columns);
  bias.load(k.bias.data, thread, columns);
  for (int64_t row = first_row<group>(); row < rows; row += row_stride<group>()) {
    x.load(k.x.data + row * columns, thread, columns);
    const A mean = mean_of<T, group>(x, thread, columns), rstd = rstd_of<T, group>(x, mean, thread, columns, k.epsilon);
    if (thread == 0) {
      k.mean.data[row] = mean;
      k.rstd.data[row] = rstd;
    }
    x.for_packs(thread, columns, [&](int i, int column) {
      Pack<T> y = x[i];
      const Pack<T> w = weight[i], b = bias[i];
#pragma unroll
      for (int j = 0; j < Pack<T>::kSize; ++j) y.at[j] = (y.at[j] - mean) * rstd * w.at[j] + b.at[j];
      store_pack(k.y.data + row * columns + column, y);
    });
  }
}

/// y, mean and rstd of rows of any length, which a block reads three times.
template <class T> __global__ void __launch_bounds__(kBlockThreads) forward_any_kernel(LayerNorm<T> k) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1], row = blockIdx.x;
  const T* x = k.x.data + row * columns;
  A sum = 0, squares = 0;
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) sum += A(x[c]);
  const A mean = block_reduce<Sum, kBlockThreads>(sum) / A(columns);
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) squares += (A(x[c]) - mean) * (A(x[c]) - mean);
  squares = block_reduce<Sum, kBlockThreads>(squares);
  const A rstd = A(1) / CudaMath::sqrt(squares / A(columns) + A(k.epsilon));
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads)
    k.y.data[row * columns + c] = T((A(x[c]) - mean) * rstd * A(k.weight.data[c]) + A(k.bias.data[c]));
  if (threadIdx.x != 0) return;
  k.mean.data[row] = mean;
  k.rstd.data[row] = rstd;
}

/// The column sums that a thread keeps of its packs.
template <class T, int group> struct ColumnSums {
  using A = accum_t<T>;
  static constexpr int kSize = Pack<T>::kSize;
  A dweight[kPacks<T, group>][kSize], dbias[kPacks<T, group>][kSize];

  __device__ ColumnSums() {
#pragma unroll
    for (int i = 0; i < kPacks<T, group>; ++i)
#pragma unroll
      for (int j = 0; j < kSize; ++j) dweight[i][j] = dbias[i][j] = 0;
  }

  /// The sums of the block's groups, added up in order, to partial [2, columns].
  __device__ void write(int thread, int columns, A* partial) const {
    if constexpr (kGroups(group) == 1) {
      put(thread, columns, partial, false);
    } else {
      __shared__ A sums[2 * Part<T, group>::kColumns];
      for (int g = 0; g < kGroups(group); ++g) {
        if (int(threadIdx.x) / group == g) put(thread, columns, sums, g > 0);
        __syncthreads();
      }
      for (int c = threadIdx.x; c < 2 * columns; c += kBlockThreads) partial[c] = sums[c];
    }
  }

 private:
  __device__ void put(int thread, int columns, A* sums, bool accumulate) const {
    Part<T, group>::for_packs(thread, columns, [&](int i, int column) {
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        kernels::put(sums[column + j], dweight[i][j], accumulate);
        kernels::put(sums[columns + column + j], dbias[i][j], accumulate);
      }
    });
  }
};

/// dx of rows that a group holds in registers, and the block's partial sums of dweight and dbias; dx may be dy.
template <class T, int group> __global__ void __launch_bounds__(kBlockThreads)
    backward_kernel(LayerNorm<T> k, const T* all_dy, Sink<T> dx, accum_t<T>* partial) {
  using A = accum_t<T>;
  constexpr int kSize = Pack<T>::kSize;
  const int64_t rows = k.x.dims[0];
  const int columns = int(k.x.dims[1]), thread = threadIdx.x % group;
  Part<T, group> x, dy, weight;
  ColumnSums<T, group> sums;
  weight.load(k.weight.data, thread, columns);
  for (int64_t row = first_row<group>(); row < rows; row += row_stride<group>()) {
    x.load(k.x.data + row * columns, thread, columns);
    dy.load(all_dy + row * columns, thread, columns);
    const A mean = k.mean.data[row], rstd = k.rstd.data[row];
    A sum_g = 0, sum_gn = 0;
    x.for_packs(thread, columns, [&](int i, int) {
      const Pack<T> x_pack = x[i], dy_pack = dy[i], w = weight[i];
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        const A n = (x_pack.at[j] - mean) * rstd, g = dy_pack.at[j] * w.at[j];
        sum_g += g;
        sum_gn += g * n;
        sums.dweight[i][j] += dy_pack.at[j] * n;
        sums.dbias[i][j] += dy_pack.at[j];
      }
    });
    if (!dx.data) continue;
    const A mean_g = group_reduce<Sum, group>(sum_g) / A(columns);
    const A mean_gn = group_reduce<Sum, group>(sum_gn) / A(columns);
    x.for_packs(thread, columns, [&](int i, int column) {
      const Pack<T> x_pack = x[i], w = weight[i];
      Pack<T> d = dy[i];
#pragma unroll
      for (int j = 0; j < kSize; ++j)
        d.at[j] = rstd * (d.at[j] * w.at[j] - mean_g - (x_pack.at[j] - mean) * rstd * mean_gn);
      put_pack(dx.data + row * columns + column, d, dx.accumulate);
    });
  }
  sums.write(thread, columns, partial + blockIdx.x * int64_t(2) * columns);
}

/// partial[blockIdx.y] = the sums of dweight and dbias over every gridDim.y-th row; a thread owns a column.
template <class T> __global__ void __launch_bounds__(kBlockThreads)
    sums_any_kernel(LayerNorm<T> k, const T* dy, accum_t<T>* partial) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int64_t column = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x;
  if (column >= columns) return;
  A dweight = 0, dbias = 0;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const A d = A(dy[row * columns + column]);
    dweight += d * (A(k.x.data[row * columns + column]) - k.mean.data[row]) * k.rstd.data[row];
    dbias += d;
  }
  partial[blockIdx.y * int64_t(2) * columns + column] = dweight;
  partial[(blockIdx.y * int64_t(2) + 1) * columns + column] = dbias;
}

/// dx of rows of any length, which a block reads twice; dx may be dy.
template <class T> __global__ void __launch_bounds__(kBlockThreads)
    dx_any_kernel(LayerNorm<T> k, const T* all_dy, Sink<T> all_dx) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1], row = blockIdx.x;
  const T *x = k.x.data + row * columns, *dy = all_dy + row * columns, *weight = k.weight.data;
  const A mean = k.mean.data[row], rstd = k.rstd.data[row];
  A sum_g = 0, sum_gn = 0;
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) {
    const A g = A(dy[c]) * A(weight[c]);
    sum_g += g;
    sum_gn += g * (A(x[c]) - mean) * rstd;
  }
  const A mean_g = block_reduce<Sum, kBlockThreads>(sum_g) / A(columns);
  const A mean_gn = block_reduce<Sum, kBlockThreads>(sum_gn) / A(columns);
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads)
    put(all_dx.data[row * columns + c], rstd * (A(dy[c]) * A(weight[c]) - mean_g - (A(x[c]) - mean) * rstd * mean_gn),
        all_dx.accumulate);
}

/// How many threads a row of whole packs is given: a warp, a block, or 0 where no group can hold it.
template <class T, class... Data> int group_for(int64_t columns, const Data*... data) {
  if (columns % Pack<T>::kSize != 0 || !aligned_16(data...)) return 0;
  return columns <= Part<T, kWarp>::kColumns ? kWarp : columns <= Part<T, kBlockThreads>::kColumns ? kBlockThreads : 0;
}

template <class T, int group> void forward_by(Cuda where, const LayerNorm<T>& k) {
  launch(where, "layer_norm_forward", {persistent_blocks(k.x.dims[0], kGroups(group), 4), kBlockThreads},
         forward_kernel<T, group>, k);
}

/// Returns how many blocks have left partial sums.
template <class T, int group>
int64_t backward_by(Cuda where, const LayerNorm<T>& k, const T* dy, const LayerNormGradients<T>& g) {
  const unsigned wanted = persistent_blocks(k.x.dims[0], kGroups(group), 2);
  const unsigned most = unsigned(layer_norm_blocks(where, k.x.dims[0])), blocks = wanted < most ? wanted : most;
  launch(where, "layer_norm_backward", {blocks, kBlockThreads}, backward_kernel<T, group>, k, dy, g.dx,
         g.workspace.data);
  return blocks;
}

template <class T>
int64_t backward_any(Cuda where, const LayerNorm<T>& k, const T* dy, const LayerNormGradients<T>& g) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1], blocks = layer_norm_blocks(where, rows);
  const dim3 grid(blocks_for(columns, kBlockThreads), unsigned(blocks));
  launch(where, "layer_norm_column_sums", {grid, kBlockThreads}, sums_any_kernel<T>, k, dy, g.workspace.data);
  if (g.dx && columns > 0)
    launch(where, "layer_norm_backward", {unsigned(rows), kBlockThreads}, dx_any_kernel<T>, k, dy, g.dx);
  return blocks;
}

}  // namespace

template <class T> void layer_norm_forward(Cuda where, const LayerNorm<T>& k) {
  const int group = group_for<T>(k.x.dims[1], k.x.data, k.weight.data, k.bias.data, k.y.data);
  if (group == kWarp)
    forward_by<T, kWarp>(where, k);
  else if (group == kBlockThreads)
    forward_by<T, kBlockThreads>(where, k);
  else
    launch(where, "layer_norm_forward", {unsigned(k.x.dims[0]), kBlockThreads}, forward_any_kernel<T>, k);
}

template <class T>
void layer_norm_backward(Cuda where, const LayerNorm<T>& k, View<const T> dy, const LayerNormGradients<T>& g) {
  const int group = group_for<T>(k.x.dims[1], k.x.data, k.weight.data, dy.data, g.dx.data);
  const int64_t blocks = group == kWarp           ? backward_by<T, kWarp>(where, k, dy.data, g)
                         : group == kBlockThreads ? backward_by<T, kBlockThreads>(where, k, dy.data, g)
                                                  : backward_any(where, k, dy.data, g);
  sum_partials(where, "layer_norm_partials",
               Partials<accum_t<T>, 2>{g.workspace.data, blocks, k.x.dims[1], {g.dweight, g.dbias}});
}

#define INSTANTIATE(T)                                         \
  template void layer_norm_forward(Cuda, const LayerNorm<T>&); \
  template void layer_norm_backward(Cuda, const LayerNorm<T>&, View<const T>, const LayerNormGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
