/// What normalizations of rows share: kernels for rows that a group of threads (a warp or a block) holds in registers, and for any others.
/// `centered` is layer_norm; without it mean and bias do not exist: rms_norm, whose statistics are those of a mean of 0.
#pragma once
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/partials.cuh"
#include "kernels/layer_norm.h"

namespace libtrain::kernels {
namespace {

/// Who holds a row in registers: a warp one of up to 512 (f64: 256) columns, or of twice as many; a block eight times those of the former;
/// nobody. Short rows are told apart because registers that are set aside and not used keep other warps away: at 512 columns that took a third
/// of the time on an H200. Numbers, for nvcc makes no stubs of kernels with a class as argument.
constexpr int kAnyRow = 0, kShortRow = 1, kWarpRow = 2, kBlockRow = 3;
constexpr int threads_of(int group) { return group == kBlockRow ? kBlockThreads : kWarp; }

/// Packs of a row that a thread of the group holds.
template <class T, int group>
constexpr int kPacks = (group == kWarpRow ? 128 : 64) / int(sizeof(accum_t<T>)) / Pack<T>::kSize;
template <class T, int group> using Part = RowPacks<T, threads_of(group), kPacks<T, group>>;

/// Calls launch.operator()<group>() with the smallest group that can hold a row of whole packs, or kAnyRow where none can.
template <class T, class Launch, class... Data>
void for_group(int64_t columns, const Launch& launch, const Data*... data) {
  if (columns % Pack<T>::kSize != 0 || !aligned_16(data...)) return launch.template operator()<kAnyRow>();
  if (columns <= Part<T, kShortRow>::kColumns) return launch.template operator()<kShortRow>();
  if (columns <= Part<T, kWarpRow>::kColumns) return launch.template operator()<kWarpRow>();
  if (columns <= Part<T, kBlockRow>::kColumns) return launch.template operator()<kBlockRow>();
  launch.template operator()<kAnyRow>();
}

/// Groups of a block, and the rows that one walks: every so many from its first on.
constexpr int kGroups(int group) { return kBlockThreads / threads_of(group); }
template <int group> __device__ int64_t first_row() {
  return blockIdx.x * int64_t(kGroups(group)) + threadIdx.x / threads_of(group);
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
  return group_reduce<Sum, threads_of(group)>(sum) / accum_t<T>(columns);
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
  return A(1) / CudaMath::sqrt(group_reduce<Sum, threads_of(group)>(squares) / A(columns) + A(epsilon));
}

/// Where rows come from. A thread makes a Walk<group> of it, tells it of each row, and gets pack i of its own in that row, as it is stored
/// (`place` being row * columns + column); a Walk<kAnyRow> gives single elements. Here: from memory.
template <class T> struct RowsFrom {
  const T* x;

  template <int group> struct Walk {
    const T* x;
    __device__ Walk(const RowsFrom& from, int /*thread*/, int /*columns*/) : x(from.x) {}
    __device__ void begin(int64_t /*row*/) {}
    __device__ uint4 pack(int /*i*/, int64_t place, int64_t /*column*/) const { return load_16(x + place); }
    __device__ T element(int64_t place, int64_t /*column*/) const { return x[place]; }
  };
};

/// Blocks that a multiprocessor has registers for. With two, backward with dropout would spill on sm_80.
template <class T, int group> constexpr bool kIsSlim = group == kShortRow && sizeof(T) == 2;
template <class T, int group> constexpr int kForwardBlocks = kIsSlim<T, group> ? 3 : group == kWarpRow ? 1 : 2;
template <class T, int group> constexpr int kBackwardBlocks = kIsSlim<T, group>&& kBuiltForHopper ? 2 : 1;

/// y, mean and rstd of rows that a group holds in registers.
template <bool centered, int group, class T, class Source>
__global__ void __launch_bounds__(kBlockThreads, kForwardBlocks<T, group>)
    norm_forward_kernel(LayerNorm<T> k, Source source) {
  using A = accum_t<T>;
  const int64_t rows = k.x.dims[0];
  const int columns = int(k.x.dims[1]), thread = threadIdx.x % threads_of(group);
  Part<T, group> x, weight, bias;
  weight.load(k.weight.data, thread, columns);
  if constexpr (centered) bias.load(k.bias.data, thread, columns);
  typename Source::template Walk<group> walk(source, thread, columns);
  for (int64_t row = first_row<group>(); row < rows; row += row_stride<group>()) {
    walk.begin(row);
    x.for_packs(thread, columns, [&](int i, int column) { x.raw[i] = walk.pack(i, row * columns + column, column); });
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
      each(
          [&](int out, int i, int column) {
            Elements<A, kSize> sum;
#pragma unroll
            for (int j = 0; j < kSize; ++j) sum.at[j] = at[out][i][j];
            store_elements(partial + out * columns + column, sum);
          },
          thread, columns);
    } else {
      // Lane after lane, so that a warp writes to all banks; padded, so that it meets all when it reads column after column.
      __shared__ A sums[outs][kPacks<T, group>][kSize][threads_of(group) + kBanks<A> / kSize];
      for (int g = 0; g < kGroups(group); ++g) {
        if (int(threadIdx.x) / threads_of(group) == g)
          each(
              [&](int out, int i, int) {
#pragma unroll
                for (int j = 0; j < kSize; ++j) put(sums[out][i][j][thread], at[out][i][j], g > 0);
              },
              thread, columns);
        __syncthreads();
      }
      for (int out = 0; out < outs; ++out)
        for (int c = threadIdx.x; c < columns; c += kBlockThreads)
          partial[out * columns + c] =
              sums[out][c / kSize / threads_of(group)][c % kSize][c / kSize % threads_of(group)];
    }
  }

 private:
  /// Calls f(out, i, column) for the thread's packs of every out.
  template <class F> __device__ static void each(const F& f, int thread, int columns) {
    Part<T, group>::for_packs(thread, columns, [&](int i, int column) {
#pragma unroll
      for (int out = 0; out < outs; ++out) f(out, i, column);
    });
  }
};

/// Where dx goes. A thread makes a Walk of it, tells it of each row, and gives it packs or single elements (`place` being row * columns +
/// column); it may add to the sums of the same columns over the rows, of which it has kSums. Here: to memory, without such sums.
template <class T> struct RowsTo {
  static constexpr int kSums = 0;
  Sink<T> dx;

  struct Walk {
    Sink<T> dx;
    __device__ explicit Walk(const RowsTo& to) : dx(to.dx) {}
    __device__ void begin(int64_t /*row*/) {}
    template <int width>
    __device__ void put(int64_t place, int64_t /*column*/, const Elements<T, width>& d, accum_t<T> (&)[width]) const {
      if (dx.data) put_elements(dx.data + place, d, dx.accumulate);
    }
  };
};

/// Columns' sums of the backward kernels: dweight, with a mean also dbias, and the target's own.
template <bool centered, class Target> constexpr int kOuts = 1 + centered + Target::kSums;

template <bool centered, class T, class Target> using NormSums = Partials<accum_t<T>, kOuts<centered, Target>>;

/// Adds up the sums of the launch's blocks, which the whole block has written; a Pack of columns a thread where addresses allow.
template <class A, int outs> __device__ inline void add_up_rows(const Partials<A, outs>& sums, int64_t columns) {
  const SumPeers peers{int(blockIdx.x), int(gridDim.x), sums.tickets};
  uintptr_t addresses = reinterpret_cast<uintptr_t>(sums.partial);
#pragma unroll
  for (int out = 0; out < outs; ++out) addresses |= reinterpret_cast<uintptr_t>(sums.out[out].data);
  if (addresses % 16 == 0 && columns % Pack<A>::kSize == 0)
    add_up_blocks<Pack<A>::kSize>(sums, peers, {columns, 0, columns});
  else
    add_up_blocks<1>(sums, peers, {columns, 0, columns});
}

/// dx of rows that a group holds in registers, and the columns' sums. dx may be dy.
template <bool centered, int group, class T, class Target>
__global__ void __launch_bounds__(kBlockThreads, kBackwardBlocks<T, group>)
    norm_backward_kernel(LayerNorm<T> k, const T* all_dy, Target target, NormSums<centered, T, Target> partials) {
  using A = accum_t<T>;
  constexpr int kSize = Pack<T>::kSize, kOut = kOuts<centered, Target>;
  const int64_t rows = k.x.dims[0];
  const int columns = int(k.x.dims[1]), thread = threadIdx.x % threads_of(group);
  Part<T, group> x, dy, weight;
  ColumnSums<T, group, kOut> sums;
  // Threads of a block have no registers left to keep narrow weights: they find them in the first cache.
  constexpr bool kKeepsWeight = threads_of(group) == kWarp || sizeof(T) == sizeof(double);
  if constexpr (kKeepsWeight) weight.load(k.weight.data, thread, columns);
  const auto weight_at = [&](int i, int column) -> Pack<T> {
    if constexpr (kKeepsWeight)
      return weight[i];
    else
      return load_pack(k.weight.data + column);
  };
  typename Target::Walk walk(target);
  for (int64_t row = first_row<group>(); row < rows; row += row_stride<group>()) {
    walk.begin(row);
    x.load(k.x.data + row * columns, thread, columns);
    dy.load(all_dy + row * columns, thread, columns);
    const A mean = centered ? k.mean.data[row] : A(0), rstd = k.rstd.data[row];
    A sum_g = 0, sum_gn = 0;
    x.for_packs(thread, columns, [&](int i, int column) {
      const Pack<T> x_pack = x[i], dy_pack = dy[i], w = weight_at(i, column);
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
    if constexpr (centered) mean_g = group_reduce<Sum, threads_of(group)>(sum_g) / A(columns);
    const A mean_gn = group_reduce<Sum, threads_of(group)>(sum_gn) / A(columns);
    x.for_packs(thread, columns, [&](int i, int column) {
      const Pack<T> x_pack = x[i], dy_pack = dy[i], w = weight_at(i, column);
      Elements<T, kSize> d;
#pragma unroll
      for (int j = 0; j < kSize; ++j)
        d.at[j] = rstd * (dy_pack.at[j] * w.at[j] - mean_g - (x_pack.at[j] - mean) * rstd * mean_gn);
      walk.put(row * columns + column, column, d, sums.at[kOut - 1][i]);
    });
  }
  sums.write(thread, columns, partials.partial + blockIdx.x * int64_t(kOut) * columns);
  add_up_rows(partials, columns);
}

// ---- Any rows -----------------------------------------------------------------------------------------------------------

/// y, mean and rstd of rows of any length: a block a row, of which it reads k.x, its own source or what that has written there, again.
template <bool centered, class T, class Source> __global__ void __launch_bounds__(kBlockThreads)
    norm_forward_any_kernel(LayerNorm<T> k, Source source) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1], row = blockIdx.x;
  const T* x = k.x.data + row * columns;
  typename Source::template Walk<kAnyRow> walk(source, 0, 0);
  walk.begin(row);
  A mean = 0, squares = 0;
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) mean += A(walk.element(row * columns + c, c));
  mean = centered ? block_reduce<Sum, kBlockThreads>(mean) / A(columns) : A(0);
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) squares += (A(x[c]) - mean) * (A(x[c]) - mean);
  squares = block_reduce<Sum, kBlockThreads>(squares);
  const A rstd = A(1) / CudaMath::sqrt(squares / A(columns) + A(k.epsilon));
  for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads)
    k.y.data[row * columns + c] =
        T((A(x[c]) - mean) * rstd * A(k.weight.data[c]) + (centered ? A(k.bias.data[c]) : A(0)));
  if (threadIdx.x == 0) k.rstd.data[row] = rstd;
  if (centered && threadIdx.x == 0) k.mean.data[row] = mean;
}

/// dx of rows of any length, and the columns' sums: a block walks rows, reads each twice, and keeps its sums, each in the care of one
/// thread, where they will be read. dx may be dy. (One block: left alone ptxas takes 64 registers for f64, and spills.)
template <bool centered, class T, class Target> __global__ void __launch_bounds__(kBlockThreads, 1)
    norm_backward_any_kernel(LayerNorm<T> k, const T* all_dy, Target target, NormSums<centered, T, Target> partials) {
  using A = accum_t<T>;
  constexpr int kOut = kOuts<centered, Target>;
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  A* sums = partials.partial + blockIdx.x * int64_t(kOut) * columns;
  if (blockIdx.x >= rows)  // there are none
    for (int64_t i = threadIdx.x; i < kOut * columns; i += kBlockThreads) sums[i] = 0;
  typename Target::Walk walk(target);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    walk.begin(row);
    const T *x = k.x.data + row * columns, *dy = all_dy + row * columns;
    const A mean = centered ? k.mean.data[row] : A(0), rstd = k.rstd.data[row];
    A mean_g = 0, mean_gn = 0;
    for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) {
      const A g = A(dy[c]) * A(k.weight.data[c]);
      mean_g += g;
      mean_gn += g * (A(x[c]) - mean) * rstd;
    }
    mean_g = centered ? block_reduce<Sum, kBlockThreads>(mean_g) / A(columns) : A(0);
    mean_gn = block_reduce<Sum, kBlockThreads>(mean_gn) / A(columns);
    const bool first = row == blockIdx.x;
    for (int64_t c = threadIdx.x; c < columns; c += kBlockThreads) {
      const A n = (A(x[c]) - mean) * rstd, d = A(dy[c]);
      A own[1] = {first || Target::kSums == 0 ? A(0) : sums[(kOut - 1) * columns + c]};
      walk.put(row * columns + c, c, Elements<T, 1>{{rstd * (d * A(k.weight.data[c]) - mean_g - n * mean_gn)}}, own);
      put(sums[c], d * n, !first);
      if constexpr (centered) put(sums[columns + c], d, !first);
      if constexpr (Target::kSums > 0) sums[(kOut - 1) * columns + c] = own[0];
    }
  }
  add_up_rows(partials, columns);
}

// ---- Launches -----------------------------------------------------------------------------------------------------------

/// The rows of `source`, all of whose addresses `data` are; k.x is what it reads or writes.
template <bool centered, class T, class Source, class... Data>
void norm_forward(Cuda where, const char* name, const LayerNorm<T>& k, const Source& source, const Data*... data) {
  const int64_t rows = k.x.dims[0], columns = k.x.dims[1];
  for_group<T>(
      columns,
      [&]<int group>() {
        if constexpr (group == kAnyRow)
          launch(where, name, {unsigned(rows), kBlockThreads}, norm_forward_any_kernel<centered, T, Source>, k, source);
        else
          launch(where, name,
                 {persistent_blocks(rows, kGroups(group), group == kBlockRow ? 4 : kForwardBlocks<T, group>),
                  kBlockThreads},
                 norm_forward_kernel<centered, group, T, Source>, k, source);
      },
      k.x.data, k.weight.data, k.bias.data, k.y.data, data...);
}

/// dx to `target`, all of whose addresses `data` are, and the columns' sums to `sums`, which has room for those of `most` blocks.
template <bool centered, class T, class Target, class... Data>
void norm_backward(Cuda where, const char* name, const LayerNorm<T>& k, const T* dy, const Target& target,
                   const NormSums<centered, T, Target>& sums, int64_t most, const Data*... data) {
  const int64_t rows = k.x.dims[0];
  for_group<T>(
      k.x.dims[1],
      [&]<int group>() {
        const unsigned wanted = persistent_blocks(rows, threads_of(group) == kWarp ? kGroups(kWarpRow) : 1, 2);
        const unsigned blocks = rows == 0 ? 1 : wanted < most ? wanted : unsigned(most);
        if constexpr (group == kAnyRow)
          launch(where, name, {blocks, kBlockThreads}, norm_backward_any_kernel<centered, T, Target>, k, dy, target,
                 sums);
        else
          launch(where, name, {blocks, kBlockThreads}, norm_backward_kernel<centered, group, T, Target>, k, dy, target,
                 sums);
      },
      k.x.data, k.weight.data, dy, data...);
}

}  // namespace
}  // namespace libtrain::kernels
