/// What normalizations of rows share: kernels for rows that a group of threads holds in registers, and for any others.
/// `centered` is layer_norm; without it mean and bias do not exist: rms_norm, whose statistics are those of a mean of 0.
#pragma once
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/partials.cuh"
#include "kernels/cuda/row_groups.cuh"
#include "kernels/layer_norm.h"

namespace libtrain::kernels {
namespace {

template <class T, int group> using RowSum = GroupSum<accum_t<T>, threads_of(group)>;

template <class T, int group>
__device__ accum_t<T> mean_of(const Part<T, group>& x, int thread, int columns, RowSum<T, group>& total) {
  accum_t<T> sum = 0;
  x.for_packs(thread, columns, [&](int i, int) {
    const Pack<T> pack = x[i];
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; ++j) sum += pack.at[j];
  });
  return total(sum) / accum_t<T>(columns);
}

/// 1 / sqrt(mean of (x - mean)^2 + epsilon)
template <class T, int group> __device__ accum_t<T> rstd_of(const Part<T, group>& x, accum_t<T> mean, int thread,
                                                            int columns, double epsilon, RowSum<T, group>& total) {
  using A = accum_t<T>;
  A squares = 0;
  x.for_packs(thread, columns, [&](int i, int) {
    const Pack<T> pack = x[i];
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; ++j) squares += (pack.at[j] - mean) * (pack.at[j] - mean);
  });
  return A(1) / CudaMath::sqrt(total(squares) / A(columns) + A(epsilon));
}

/// Where rows come from: kArrays arrays. A thread makes a Walk<group> of it, which may use one place for numbers of columns, tells it of each
/// row ahead of time and again when it begins, and gets pack i of its own in that row, as it is stored (`place` being row * columns +
/// column); a Walk<kAnyRow> gives single elements. Here: from memory.
template <class T> struct RowsFrom {
  static constexpr int kArrays = 1;
  const T* x;

  template <int group> struct Walk {
    const T* x;
    __device__ Walk(const RowsFrom& from, ColumnPlace<T, group>&, int /*thread*/, int /*columns*/) : x(from.x) {}
    __device__ void expect(int64_t /*row*/) {}
    __device__ void begin() {}
    __device__ const T* at(int /*array*/, int64_t place) const { return x + place; }
    __device__ uint4 pack(const RowAhead<T, group, kArrays>& ahead, int i, int64_t /*place*/,
                          int64_t /*column*/) const {
      return ahead.pack(0, i);
    }
    __device__ T element(int64_t place, int64_t /*column*/) const { return x[place]; }
  };
};

/// Blocks that a multiprocessor has registers for. With two, backward with dropout would spill on sm_80.
template <class T, int group> constexpr bool kIsSlim = group != kBlockRow && sizeof(T) == 2;
template <class T, int group> constexpr int kForwardBlocks = kIsSlim<T, group> ? 4 : 2;
template <class T, int group> constexpr int kBackwardBlocks = kIsSlim<T, group>&& kBuiltForHopper ? 2 : 1;

/// y, mean and rstd of rows that a group holds in registers.
template <bool centered, int group, class T, class Source>
__global__ void __launch_bounds__(kBlockThreads, kForwardBlocks<T, group>)
    norm_forward_kernel(LayerNorm<T> k, Source source) {
  using A = accum_t<T>;
  LIBTRAIN_DYNAMIC_SHARED(shared);
  const int64_t rows = k.x.dims[0];
  const int columns = int(k.x.dims[1]), thread = threadIdx.x % threads_of(group);
  Part<T, group> x;
  __shared__ ColumnPlace<T, group> places[3];
  const ColumnPacks<T, group> weight(places[0], k.weight.data, thread, columns),
      bias(places[1], k.bias.data, thread, columns);
  typename Source::template Walk<group> walk(source, places[2], thread, columns);
  const RowAhead<T, group, Source::kArrays> ahead(shared, threadIdx.x);
  RowSum<T, group> total;
  const auto expect = [&](int64_t row) {
    if (row >= rows) return;
    walk.expect(row);
    ahead.template fetch_row<0, Source::kArrays>(
        thread, columns, [&](int array, int column) { return walk.at(array, row * columns + column); });
  };
  expect(first_row<group>());
  ahead.wait();
  if constexpr (kGroups(group) > 1) __syncthreads();
  for (int64_t row = first_row<group>(); row < rows; row += row_stride<group>()) {
    walk.begin();
    ahead.wait();
    x.for_packs(thread, columns,
                [&](int i, int column) { x.raw[i] = walk.pack(ahead, i, row * columns + column, column); });
    expect(row + row_stride<group>());
    A mean = 0;
    if constexpr (centered) mean = mean_of<T, group>(x, thread, columns, total);
    const A rstd = rstd_of<T, group>(x, mean, thread, columns, k.epsilon, total);
    if (thread == 0) k.rstd.data[row] = rstd;
    if (centered && thread == 0) k.mean.data[row] = mean;
    x.for_packs(thread, columns, [&](int i, int column) {
      Pack<T> y = x[i], b{};
      const Pack<T> w = weight[i];
      if constexpr (centered) b = bias[i];
#pragma unroll
      for (int j = 0; j < Pack<T>::kSize; ++j) y.at[j] = (y.at[j] - mean) * rstd * w.at[j] + b.at[j];
      store_16_whole(k.y.data + row * columns + column, pack_bits<T>(y));
    });
  }
}

/// Where dx goes. A thread makes a Walk of it, tells it of each row as a source's, and gives it packs or single elements (`place` being
/// row * columns + column), with what it reads there itself, kArrays arrays; it may add to the sums of the same columns over the rows, of
/// which it has kSums. Here: to memory, without such sums.
template <class T> struct RowsTo {
  static constexpr int kArrays = 0, kSums = 0;
  Sink<T> dx;

  struct Walk {
    Sink<T> dx;
    __device__ explicit Walk(const RowsTo& to) : dx(to.dx) {}
    __device__ void expect(int64_t /*row*/) {}
    __device__ void begin() {}
    __device__ const T* at(int /*array*/, int64_t /*place*/) const { return nullptr; }
    template <int width, class Read> __device__ void put(int64_t place, int64_t /*column*/, const Elements<T, width>& d,
                                                         accum_t<T> (&)[width], const Read&) const {
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
  LIBTRAIN_DYNAMIC_SHARED(shared);
  const int64_t rows = k.x.dims[0];
  const int columns = int(k.x.dims[1]), thread = threadIdx.x % threads_of(group);
  Part<T, group> x, dy;
  ColumnSums<T, group, kOut> sums;
  __shared__ ColumnPlace<T, group> place;
  const ColumnPacks<T, group> weight(place, k.weight.data, thread, columns);
  typename Target::Walk walk(target);
  const RowAhead<T, group, 2 + Target::kArrays> ahead(shared, threadIdx.x);
  RowSum<T, group> total;
  A next_mean = 0, next_rstd = 0;
  const auto expect = [&](int64_t row) {
    if (row >= rows) return;
    walk.expect(row);
    if constexpr (centered) next_mean = k.mean.data[row];
    next_rstd = k.rstd.data[row];
    ahead.template fetch_row<0, 2>(thread, columns, [&](int array, int column) {
      return (array == 0 ? k.x.data : all_dy) + row * columns + column;
    });
  };
  // What the target reads is needed late: its places are free when those of x and dy have long been filled again.
  const auto expect_target = [&](int64_t row) {
    if (Target::kArrays == 0 || row >= rows) return;
    ahead.template fetch_row<2, 2 + Target::kArrays>(
        thread, columns, [&](int array, int column) { return walk.at(array - 2, row * columns + column); });
  };
  constexpr int kLate = Target::kArrays > 0;
  expect(first_row<group>());
  expect_target(first_row<group>());
  ahead.wait();
  if constexpr (kGroups(group) > 1) __syncthreads();
  for (int64_t row = first_row<group>(); row < rows; row += row_stride<group>()) {
    const int64_t first = row * columns, next = row + row_stride<group>();
    const A mean = next_mean, rstd = next_rstd;
    walk.begin();
    ahead.template wait<kLate>();
    A sum_g = 0, sum_gn = 0;
    x.for_packs(thread, columns, [&](int i, int /*column*/) {
      x.raw[i] = ahead.pack(0, i);
      dy.raw[i] = ahead.pack(1, i);
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
    expect(next);
    A mean_g = 0;
    if constexpr (centered) mean_g = total(sum_g) / A(columns);
    const A mean_gn = total(sum_gn) / A(columns);
    if constexpr (kLate) {
      if (next < rows)
        ahead.template wait<1>();
      else
        ahead.wait();
    }
    const A of_x = rstd * rstd * mean_gn, offset = rstd * mean_g;
    x.for_packs(thread, columns, [&](int i, int column) {
      const Pack<T> x_pack = x[i], dy_pack = dy[i], w = weight[i];
      Elements<T, kSize> d;
#pragma unroll
      for (int j = 0; j < kSize; ++j)  // rstd (g - mean(g) - n mean(g n)), in two products of three
        d.at[j] = rstd * (dy_pack.at[j] * w.at[j]) - ((x_pack.at[j] - mean) * of_x + offset);
      walk.put(first + column, column, d, sums.at[kOut - 1][i],
               [&](int array, const T*) { return unpacked<T>(ahead.pack(2 + array, i)); });
    });
    expect_target(next);
  }
  sums.write(thread, columns, partials.partial + blockIdx.x * int64_t(kOut) * columns, shared);
  add_up_rows(partials, columns);
}

// ---- Any rows -----------------------------------------------------------------------------------------------------------

/// y, mean and rstd of rows of any length: a block a row, of which it reads k.x, its own source or what that has written there, again.
template <bool centered, class T, class Source> __global__ void __launch_bounds__(kBlockThreads)
    norm_forward_any_kernel(LayerNorm<T> k, Source source) {
  using A = accum_t<T>;
  const int64_t columns = k.x.dims[1], row = blockIdx.x;
  const T* x = k.x.data + row * columns;
  ColumnPlace<T, kAnyRow> none;
  typename Source::template Walk<kAnyRow> walk(source, none, 0, 0);
  walk.expect(row);
  walk.begin();
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
    walk.expect(row);
    walk.begin();
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
      walk.put(row * columns + c, c, Elements<T, 1>{{rstd * (d * A(k.weight.data[c]) - mean_g - n * mean_gn)}}, own,
               [](int, const T* data) { return load_elements<1>(data); });
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
          launch(where, name, {blocks_for(rows, 1), kBlockThreads}, norm_forward_any_kernel<centered, T, Source>, k,
                 source);
        else
          launch(where, name,
                 {persistent_blocks(rows, kGroups(group), group == kBlockRow ? 4 : kForwardBlocks<T, group>),
                  kBlockThreads, RowAhead<T, group, Source::kArrays>::kSharedBytes},
                 norm_forward_kernel<centered, group, T, Source>, k, source);
      },
      k.x.data, k.weight.data, k.bias.data, k.y.data, data...);
}

/// Shared memory for the rows ahead and, when there are none any more, for the columns' sums.
template <bool centered, int group, class T, class Target> constexpr size_t backward_bytes() {
  constexpr size_t ahead = RowAhead<T, group, 2 + Target::kArrays>::kSharedBytes,
                   sums = ColumnSums<T, group, kOuts<centered, Target>>::kSharedBytes;
  return ahead > sums ? ahead : sums;
}

/// dx to `target`, all of whose addresses `data` are, and the columns' sums to `sums`, which has room for those of `most` blocks.
template <bool centered, class T, class Target, class... Data>
void norm_backward(Cuda where, const char* name, const LayerNorm<T>& k, const T* dy, const Target& target,
                   const NormSums<centered, T, Target>& sums, int64_t most, const Data*... data) {
  const int64_t rows = k.x.dims[0];
  for_group<T>(
      k.x.dims[1],
      [&]<int group>() {
        const unsigned wanted = persistent_blocks(rows, group == kAnyRow ? 1 : kGroups(group), 2);
        const unsigned blocks = rows == 0 ? 1 : wanted < most ? wanted : unsigned(most);
        if constexpr (group == kAnyRow)
          launch(where, name, {blocks, kBlockThreads}, norm_backward_any_kernel<centered, T, Target>, k, dy, target,
                 sums);
        else
          launch(where, name, {blocks, kBlockThreads, backward_bytes<centered, group, T, Target>()},
                 norm_backward_kernel<centered, group, T, Target>, k, dy, target, sums);
      },
      k.x.data, k.weight.data, dy, sums.partial, data...);
}

}  // namespace
}  // namespace libtrain::kernels
