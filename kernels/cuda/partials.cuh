/// Sums over rows in one launch. A block is 32 lanes wide, its warps walk every so many rows with the sums of their lanes' columns in
/// registers, and are added up in order into a bounded workspace. There the last block to arrive adds up those of all blocks, in their
/// order, whichever block that is: so the bits are always the same. Many blocks are added up in groups first, each by its own last one.
/// Source: "threadFenceReduction" of NVIDIA's CUDA samples, for the last block.
#pragma once
#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {

/// out[i][c] = sum over blocks of partial[block][i][c], for those outs that are wanted.
template <class A, int outs> struct Partials {
  A* partial;         // [blocks, outs, columns]
  unsigned* tickets;  // Cuda::tickets
  Sink<A> out[outs];

  __host__ __device__ bool wanted() const {
    bool any = false;
    for (const Sink<A>& sink : out) any = any || sink.data;
    return any;
  }
};

constexpr int kSumGroup = 20;  // blocks whose sums are added up by the last of them; registers hold up to four numbers of each

/// Blocks that add up the same columns: this one is number `index` of `count`.
struct SumPeers {
  int index, count;
  unsigned* tickets;  // theirs alone: sum_tickets(count)

  __device__ int groups() const { return (count + kSumGroup - 1) / kSumGroup; }
};
__host__ __device__ constexpr int sum_tickets(int count) {
  return count <= kSumGroup ? 1 : 1 + (count + kSumGroup - 1) / kSumGroup;
}

/// Sums of `count` times `width` numbers, `stride` apart. Those of a group are all on their way before the first is added: nobody else
/// is at work any more, and each wait is a whole trip to the L2 cache.
template <int width, class A>
__device__ inline Elements<A, width> sum_apart(const A* first, int count, int64_t stride) {
  Elements<A, width> sum{};
#pragma unroll 1
  for (int begin = 0; begin < count; begin += kSumGroup) {
    Elements<A, width> part[kSumGroup] = {};
#pragma unroll
    for (int i = 0; i < kSumGroup; ++i, first += stride)
      if (begin + i < count) part[i] = load_elements<width>(first);
#pragma unroll
    for (int i = 0; i < kSumGroup; ++i) sum = plus(sum, part[i]);
  }
  return sum;
}

/// Columns that a block adds up, of `columns` in all.
struct SumColumns { int64_t columns, begin, end; };

/// Calls put(i, c, sum) for columns c, c + 1, … c + width - 1 of out i: the sums of `count` blocks, `stride` apart from `from` on.
template <int outs, int width, class A, class Put> __device__ inline void sum_columns(const A* from, SumColumns which,
                                                                                      int count, int64_t stride,
                                                                                      const Put& put) {
  const int64_t packs = (which.end - which.begin) / width;
  for (int64_t at = threadIdx.x; at < outs * packs; at += blockDim.x) {
    int i = 0;
#pragma unroll
    for (int out = 1; out < outs; ++out) i += at >= out * packs;
    const int64_t c = which.begin + (at - i * packs) * width;
    put(i, c, sum_apart<width>(from + i * which.columns + c, count, stride));
  }
}

/// The block has written partial[peers.index][i][c] for its columns c; the last of the peers writes the outs there, `width` columns a
/// thread. The whole block calls it.
template <int width, class A, int outs>
__device__ inline void add_up_blocks(const Partials<A, outs>& p, SumPeers peers, SumColumns which) {
  if (!p.wanted()) return;
  using Sums = Elements<A, width>;
  const int64_t size = outs * which.columns;
  int count = peers.count;
  int64_t stride = size;
  if (count > kSumGroup) {
    const int group = peers.index / kSumGroup, left = count - group * kSumGroup;
    const int members = left < kSumGroup ? left : kSumGroup;
    if (!arrives_last(peers.tickets + 1 + group, members)) return;
    A* sums = p.partial + int64_t(group) * kSumGroup * size;  // of the group's first block, then of the group
    sum_columns<outs, width>(sums, which, members, size, [&](int i, int64_t c, const Sums& sum) {
      store_elements(sums + i * which.columns + c, sum);
    });
    count = peers.groups();
    stride = size * kSumGroup;
  }
  if (!arrives_last(peers.tickets, count)) return;
  sum_columns<outs, width>(p.partial, which, count, stride, [&](int i, int64_t c, const Sums& sum) {
    Sink<A> out = p.out[0];
#pragma unroll
    for (int other = 1; other < outs; ++other)
      if (i == other) out = p.out[other];
    if (out.data) put_elements(out.data + c, sum, out.accumulate);
  });
}

/// Blocks that hold all columns, `width` a lane, in `row_blocks` rows of the grid.
inline LaunchShape column_walk_shape(int64_t columns, int width, int64_t row_blocks) {
  return {dim3(blocks_for(columns, kWarp * width), unsigned(row_blocks)), kBlockThreads};
}

/// The columns of a lane, and the rows that its warp walks.
template <int width> __device__ inline MatrixThread column_walk() {
  constexpr int kWarps = kBlockThreads / kWarp;
  return {(blockIdx.x * int64_t(kWarp) + threadIdx.x % kWarp) * width,
          blockIdx.y * int64_t(kWarps) + threadIdx.x / kWarp, int64_t(gridDim.y) * kWarps};
}

/// Adds up the sums of a column walk: those of the block's warps in order, then those of all blocks. The whole block calls it, once.
template <class T, int width> __device__ inline void add_up_columns(const Elements<T, width>& sum, int64_t columns,
                                                                    const Partials<accum_t<T>, 1>& p) {
  constexpr int kWarps = kBlockThreads / kWarp;
  // Lane after lane, so that a warp writes to all banks; padded, so that it meets all when it reads column after column.
  constexpr int kPadding = width == 1 ? 0 : kBanks<accum_t<T>> / width;
  __shared__ accum_t<T> of_warp[kWarps][width][kWarp + kPadding];
#pragma unroll
  for (int j = 0; j < width; ++j) of_warp[threadIdx.x / kWarp][j][threadIdx.x % kWarp] = sum.at[j];
  __syncthreads();
  const int i = threadIdx.x;
  static_assert(kWarp * width <= kBlockThreads);
  const int64_t begin = int64_t(blockIdx.x) * kWarp * width, past = begin + kWarp * width;
  const int64_t end = past < columns ? past : columns;
  if (begin + i < end) {
    accum_t<T> total = of_warp[0][i % width][i / width];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) total += of_warp[warp][i % width][i / width];
    p.partial[blockIdx.y * columns + begin + i] = total;
  }
  const int count = int(gridDim.y);
  const SumPeers peers{int(blockIdx.y), count, p.tickets + int(blockIdx.x) * sum_tickets(count)};
  add_up_blocks<1>(p, peers, {columns, begin, end});
}

}  // namespace libtrain::kernels
