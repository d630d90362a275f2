/// What normalizations of rows share: kernels for rows that a group of threads (a warp or a block) holds in registers, and for any others.
/// `centered` is layer_norm; without it mean and bias do not exist: rms_norm, whose statistics are those of a mean of 0.
#pragma once
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/layer_norm.h"

namespace libtrain::kernels {
namespace {

/// Packs of a row that a thread of `group` holds: 32 elements of a warp's row, 16 of a block's; half as many in f64.
template <class T, int group> constexpr int kPacks = (group == kWarp ? 128 : 64) / sizeof(accum_t<T>) / Pack<T>::kSize;
template <class T, int group> using Part = RowPacks<T, group, kPacks<T, group>>;

/// How many threads a row of whole packs is given: a warp, a block, or 0 where no group can hold it.
template <class T, class... Data> int group_for(int64_t columns, const Data*... data) {
  if (columns % Pack<T>::kSize != 0 || !aligned_16(data...)) return 0;
  return columns <= Part<T, kWarp>::kColumns ? kWarp : columns <= Part<T, kBlockThreads>::kColumns ? kBlockThreads : 0;
}

/// Groups of a block, and the rows that one walks: every so many from its first on.
constexpr int kGroups(int group) { return kBlockThreads / group; }
template <int group> __device__ int64_t first_row() {
  return blockIdx.x * int64_t(kGroups(group)) + threadIdx.x / group;
}
template <int group> __device__ int64_t row_stride() { return int64_t(gridDim.x) * kGroups(group); }

// ---- Rows in registers --------------------------------------------------------------------------------------------------

template <class T, int group> __device__ accum_t<T> mean_of(const Part<T, group>& x, int thread, int columns) {
  accum_t<T> sum = 0;
  x.for_packs(thread, columns, [&](int i, int) {
    const Pack<T> pack = x[i];
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; ++j) sum += pack.at[j];
  });
  return group_reduce<Sum, group>(sum) / accum_t<T>(columns);
}

/// 1 / sqrt(mean of (x - mean)^2 + epsilon)
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

/// Reads rows from where they lie.
template <class T> struct RowsFrom {
  const T* x;

  __device__ uint4 operator()(int64_t row, int column, int columns) const {
    return load_16(x + row * columns + column);
  }
};

/// y, mean and rstd of rows that a group gets from source(row, column, columns), 16 bytes at a time.
template <bool centered, int group, class T, class Source> __global__ void __launch_bounds__(kBlockThreads)
    norm_forward_kernel(LayerNorm<T> k, Source source) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0];
  const int columns = int(k.x.dims[1]), thread = threadIdx.x % group;
  Part<T, group> x, weight, bias;
  weight.load(k.weight.data, thread, columns);
  if constexpr (centered) bias.load(k.bias.data, thread, columns);
  for (int64_t row = first_row<group>(); row < rows; row += row_stride<group>()) {
    x.for_packs(thread, columns, [&](int i, int column) { x.raw[i] = source(row, column, columns); });
    A mean = 0;
    if constexpr (centered) mean = mean_of<T, group>(x, thread, columns);
    const A rstd = rstd_of<T, group>(x, mean, thread, columns, k.epsilon);
    if (thread == 0) k.rstd.data[row] = rstd;
    if (centered && thread == 0) k.mean.data[row] = mean;
    x.for_packs(thread, columns, [&](int i, int column) {
      Pack<T> y = x[i], b{};
      const Pack<T> w = weight[i];
      if constexpr (centered) b = bias[i];
#pragma unroll
      for (int j = 0; j < Pack<T>::kSize; ++j) y.at[j] = (y.at[j] - mean) * rstd * w.at[j] + b.at[j];
      store_pack(k.y.data + row * columns + column, y);
    });
  }
}

/// Sums over rows that a thread keeps of the columns of its packs, `outs` of each.
template <class T, int group, int outs> struct ColumnSums {
  using A = accum_t<T>;
  static constexpr int kSize = Pack<T>::kSize;
  A at[outs][kPacks<T, group>][kSize];

  __device__ ColumnSums() {
#pragma unroll
    for (int out = 0; out < outs; ++out)
#pragma unroll
      for (int i = 0; i < kPacks<T, group>; ++i)
#pragma unroll
        for (int j = 0; j < kSize; ++j) at[out][i][j] = 0;
  }

  /// Writes the sums of the block's groups, added up in order, to partial [outs, columns]. The whole block calls it.
  __device__ void write(int thread, int columns, A* partial) const {
    if constexpr (kGroups(group) == 1) {
      put(thread, columns, partial, false);
    } else {
      __shared__ A sums[outs * Part<T, group>::kColumns];
      for (int g = 0; g < kGroups(group); ++g) {
        if (int(threadIdx.x) / group == g) put(thread, columns, sums, g > 0);
        __syncthreads();
      }
      for (int c = threadIdx.x; c < outs * columns; c += kBlockThreads) partial[c] = sums[c];
    }
  }

 private:
  __device__ void put(int thread, int columns, A* sums, bool accumulate) const {
    Part<T, group>::for_packs(thread, columns, [&](int i, int column) {
#pragma unroll
      for (int out = 0; out < outs; ++out)
#pragma unroll
        for (int j = 0; j < kSize; ++j) kernels::put(sums[out * columns + column + j], at[out][i][j], accumulate);
    });
  }
};

/// Writes dx where it belongs.
template <class T> struct RowsTo {
  Sink<T> dx;

  __device__ void operator()(int64_t row, int column, int columns, const Pack<T>& pack) const {
    if (dx.data) put_pack(dx.data + row * columns + column, pack, dx.accumulate);
  }
};

/// dx of rows that a group holds in registers, handed to target(row, column, columns, pack), and the block's partial sums of dweight (and
/// dbias). dx may be dy.
template <bool centered, int group, class T, class Target> __global__ void __launch_bounds__(kBlockThreads)
    norm_backward_kernel(LayerNorm<T> k, const T* all_dy, Target target, accum_t<T>* partial) {
  using A = accum_t<T>;
  constexpr int kSize = Pack<T>::kSize, kOuts = centered ? 2 : 1;
  const int64_t rows = k.x.dims[0];
  const int columns = int(k.x.dims[1]), thread = threadIdx.x % group;
  Part<T, group> x, dy, weight;
  ColumnSums<T, group, kOuts> sums;
  weight.load(k.weight.data, thread, columns);
  for (int64_t row = first_row<group>(); row < rows; row += row_stride<group>()) {
    x.load(k.x.data + row * columns, thread, columns);
    dy.load(all_dy + row * columns, thread, columns);
    const A mean = centered ? k.mean.data[row] : A(0), rstd = k.rstd.data[row];
    A sum_g = 0, sum_gn = 0;
    x.for_packs(thread, columns, [&](int i, int) {
      const Pack<T> x_pack = x[i], dy_pack = dy[i], w = weight[i];
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        const A n = (x_pack.at[j] - mean) * rstd, g = dy_pack.at[j] * w.at[j];
        sum_g += g;
        sum_gn += g * n;
        sums.at[0][i][j] += dy_pack.at[j] * n;
        if constexpr (centered) sums.at[1][i][j] += dy_pack.at[j];
      }
    });
    A mean_g = 0;
    if constexpr (centered) mean_g = group_reduce<Sum, group>(sum_g) / A(columns);
    const A mean_gn = group_reduce<Sum, group>(sum_gn) / A(columns);
    x.for_packs(thread, columns, [&](int i, int column) {
      const Pack<T> x_pack = x[i], w = weight[i];
      Pack<T> d = dy[i];
#pragma unroll
      for (int j = 0; j < kSize; ++j)
        d.at[j] = rstd * (d.at[j] * w.at[j] - mean_g - (x_pack.at[j] - mean) * rstd * mean_gn);
      target(row, column, columns, d);
    });
  }
  sums.write(thread, columns, partial + blockIdx.x * int64_t(kOuts) * columns);
}

// ---- Any rows -----------------------------------------------------------------------------------------------------------

/// y, mean and rstd of rows of any length, which a block reads again for each.
template <bool centered, class T> __global__ void __launch_bounds__(kBlockThreads)
    norm_forward_any_kernel(LayerNorm<T> k) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1], row = blockIdx.x;
  const T* x = k.x.data + row * columns;
  A mean = 0, squares = 0;
  if constexpr (centered) {
    for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) mean += A(x[c]);
    mean = block_reduce<Sum, kBlockThreads>(mean) / A(columns);
  }
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) squares += (A(x[c]) - mean) * (A(x[c]) - mean);
  squares = block_reduce<Sum, kBlockThreads>(squares);
  const A rstd = A(1) / CudaMath::sqrt(squares / A(columns) + A(k.epsilon));
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads)
    k.y.data[row * columns + c] =
        T((A(x[c]) - mean) * rstd * A(k.weight.data[c]) + (centered ? A(k.bias.data[c]) : A(0)));
  if (threadIdx.x == 0) k.rstd.data[row] = rstd;
  if (centered && threadIdx.x == 0) k.mean.data[row] = mean;
}

/// partial[blockIdx.y] = the sums of dweight (and dbias) over every gridDim.y-th row; a thread owns a column.
template <bool centered, class T> __global__ void __launch_bounds__(kBlockThreads)
    norm_sums_any_kernel(LayerNorm<T> k, const T* dy, accum_t<T>* partial) {
  using A = accum_t<T>;
  constexpr int kOuts = centered ? 2 : 1;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int64_t column = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x;
  if (column >= columns) return;
  A dweight = 0, dbias = 0;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const A d = A(dy[row * columns + column]), mean = centered ? k.mean.data[row] : A(0);
    dweight += d * (A(k.x.data[row * columns + column]) - mean) * k.rstd.data[row];
    dbias += d;
  }
  partial[blockIdx.y * int64_t(kOuts) * columns + column] = dweight;
  if constexpr (centered) partial[(blockIdx.y * int64_t(2) + 1) * columns + column] = dbias;
}

/// dx of rows of any length, which a block reads twice; dx may be dy.
template <bool centered, class T> __global__ void __launch_bounds__(kBlockThreads)
    norm_dx_any_kernel(LayerNorm<T> k, const T* all_dy, Sink<T> all_dx) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1], row = blockIdx.x;
  const T *x = k.x.data + row * columns, *dy = all_dy + row * columns, *weight = k.weight.data;
  const A mean = centered ? k.mean.data[row] : A(0), rstd = k.rstd.data[row];
  A mean_g = 0, mean_gn = 0;
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) {
    const A g = A(dy[c]) * A(weight[c]);
    mean_g += g;
    mean_gn += g * (A(x[c]) - mean) * rstd;
  }
  mean_g = centered ? block_reduce<Sum, kBlockThreads>(mean_g) / A(columns) : A(0);
  mean_gn = block_reduce<Sum, kBlockThreads>(mean_gn) / A(columns);
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads)
    put(all_dx.data[row * columns + c], rstd * (A(dy[c]) * A(weight[c]) - mean_g - (A(x[c]) - mean) * rstd * mean_gn),
        all_dx.accumulate);
}

// ---- Launches -----------------------------------------------------------------------------------------------------------

template <bool centered, class T> void norm_forward(Cuda where, const char* name, const LayerNorm<T>& k) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int group = group_for<T>(columns, k.x.data, k.weight.data, k.bias.data, k.y.data);
  const RowsFrom<T> source{k.x.data};
  if (group == kWarp)
    launch(where, name, {persistent_blocks(rows, kGroups(kWarp), 4), kBlockThreads},
           norm_forward_kernel<centered, kWarp, T, RowsFrom<T>>, k, source);
  else if (group == kBlockThreads)
    launch(where, name, {persistent_blocks(rows, 1, 4), kBlockThreads},
           norm_forward_kernel<centered, kBlockThreads, T, RowsFrom<T>>, k, source);
  else
    launch(where, name, {unsigned(rows), kBlockThreads}, norm_forward_any_kernel<centered, T>, k);
}

/// Blocks of norm_backward_kernel: as many as run side by side, and `most` at most.
inline unsigned norm_backward_blocks(int64_t rows, int group, int64_t most) {
  const unsigned wanted = persistent_blocks(rows, kGroups(group), 2);
  return wanted < most ? wanted : unsigned(most);
}

/// dx, and partial sums of the columns [blocks, 2 or 1, columns] in `workspace`, which has room for `most` blocks. Returns blocks.
template <bool centered, class T> int64_t norm_backward(Cuda where, const char* name, const LayerNorm<T>& k,
                                                        const T* dy, Sink<T> dx, accum_t<T>* workspace, int64_t most) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  const int group = group_for<T>(columns, k.x.data, k.weight.data, dy, dx.data);
  const RowsTo<T> target{dx};
  if (group == 0) {
    launch(where, name, {dim3(blocks_for(columns, kBlockThreads), unsigned(most)), kBlockThreads},
           norm_sums_any_kernel<centered, T>, k, dy, workspace);
    if (dx) launch(where, name, {unsigned(rows), kBlockThreads}, norm_dx_any_kernel<centered, T>, k, dy, dx);
    return most;
  }
  const unsigned blocks = norm_backward_blocks(rows, group, most);
  launch(where, name, {blocks, kBlockThreads},
         group == kWarp ? norm_backward_kernel<centered, kWarp, T, RowsTo<T>>
                        : norm_backward_kernel<centered, kBlockThreads, T, RowsTo<T>>,
         k, dy, target, workspace);
  return blocks;
}

}  // namespace
}  // namespace libtrain::kernels
