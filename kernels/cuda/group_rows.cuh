/// Rows sorted by the id that each holds, in rising order within an id: a radix sort of (id, row) from the low digits up. A pass is
/// one launch: each chunk of rows finds out where its rows of every digit begin, for which it counts the digits of all rows by itself (4
/// bytes a row, from the cache), and places its own in order. No place depends on which thread or block came first. Rows that count for
/// nothing come last, under id `vocab`.
/// Source: Satish, Harris, Garland, "Designing efficient sorting algorithms for manycore GPUs", IPDPS 2009.
#pragma once
#include <utility>

#include "kernels/cuda/common.cuh"
#include "kernels/embedding.h"

namespace libtrain::kernels {
namespace {

constexpr int kSortThreads = int(kSortDigits), kSortWarps = kSortThreads / kWarp;

/// What the first pass sets to zero besides: `words` for the launches to come, `packs` of 16 bytes for whoever wants them.
struct SortZeros {
  int32_t* words;
  uint4* packs;
  int64_t word_count, pack_count;
};

/// One pass. All arrays are [rows].
struct SortPass {
  const int32_t *ids, *order;  // as the pass before left them; without `order`, row i stands at i
  int32_t *ids_out, *order_out;
  int64_t rows, chunk_rows;
  int chunks;
  int32_t vocab, pad_id;
  int shift;
  BadIndex* bad_index;
  BadIndex::Op op;
};

/// The id under which row i is sorted.
__device__ inline int32_t sorted_id(const SortPass& k, int64_t i) {
  const int32_t id = k.ids[i];
  return id >= 0 && id < k.vocab && id != k.pad_id ? id : k.vocab;
}

__device__ inline int sort_digit(const SortPass& k, int32_t id) { return (id >> k.shift) % int(kSortDigits); }

/// Block: the sum of `value` over the threads before this one. Holds one barrier.
__device__ inline int sum_before(int value) {
  __shared__ int of_warp[kSortWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int sum = value;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int other = __shfl_up_sync(kAllLanes, sum, distance);
    if (lane >= distance) sum += other;
  }
  if (lane == kWarp - 1) of_warp[warp] = sum;
  __syncthreads();
  for (int before = 0; before < warp; ++before) sum += of_warp[before];
  return sum - value;
}

/// Where the rows of digit threadIdx.x go that stand from `begin` on, one chunk's. Holds three barriers.
__device__ inline int first_place(const SortPass& k, int64_t begin) {
  __shared__ int total[kSortDigits], before[kSortDigits];
  total[threadIdx.x] = before[threadIdx.x] = 0;
  __syncthreads();
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < k.rows; i += kSortThreads) {
    const int digit = sort_digit(k, sorted_id(k, i));
    atomicAdd(&total[digit], 1);
    if (i < begin) atomicAdd(&before[digit], 1);
  }
  __syncthreads();
  return sum_before(total[threadIdx.x]) + before[threadIdx.x];
}

/// Warp: the lanes that are active and have the same digit.
__device__ inline unsigned lanes_alike(int digit, bool active) {
  unsigned lanes = __ballot_sync(kAllLanes, active);
#pragma unroll
  for (int bit = 0; bit < kSortBits; ++bit) {
    const bool one = digit >> bit & 1;
    const unsigned ones = __ballot_sync(kAllLanes, one);
    lanes &= one ? ones : ~ones;
  }
  return lanes;
}

/// Sets zeros, a grid's length at a time.
__device__ inline void set_zeros(const SortZeros& zeros) {
  const int64_t me = blockIdx.x * int64_t(kSortThreads) + threadIdx.x, all = int64_t(gridDim.x) * kSortThreads;
  for (int64_t i = me; i < zeros.word_count; i += all) zeros.words[i] = 0;
  for (int64_t i = me; i < zeros.pack_count; i += all) store_16(zeros.packs + i, make_uint4(0, 0, 0, 0));
}

/// Places the rows of a block's chunk, kSortThreads at a time: by digit, then chunk, then as they stand. The first pass also notes ids
/// that are none. There may be more blocks, for zeros alone.
__global__ void __launch_bounds__(kSortThreads) place_rows(SortPass k, SortZeros zeros) {
  __shared__ int start[kSortDigits];                     // where the next row of each digit goes
  __shared__ uint16_t in_tile[kSortWarps][kSortDigits];  // rows of each digit: of a warp, then of the warps before it
  set_zeros(zeros);
  if (int(blockIdx.x) >= k.chunks) return;
  const int digit_of_thread = threadIdx.x, warp = threadIdx.x / kWarp;
  const unsigned lanes_before = (1u << threadIdx.x % kWarp) - 1;
  const int64_t begin = blockIdx.x * k.chunk_rows, end = begin + k.chunk_rows < k.rows ? begin + k.chunk_rows : k.rows;
  start[digit_of_thread] = first_place(k, begin);
  for (int64_t tile = begin; tile < end; tile += kSortThreads) {
    for (int w = 0; w < kSortWarps; ++w) in_tile[w][digit_of_thread] = 0;
    __syncthreads();
    const int64_t i = tile + threadIdx.x;
    const int32_t id = i < end ? sorted_id(k, i) : 0;
    if (!k.order && i < end && id == k.vocab && (k.ids[i] < 0 || k.ids[i] != k.pad_id))
      note_bad_index(k.bad_index, {k.op, -1, i, k.ids[i], k.vocab});
    const int digit = sort_digit(k, id);
    const unsigned alike = lanes_alike(digit, i < end);
    const int rank = __popc(alike & lanes_before);
    if (i < end && rank == 0) in_tile[warp][digit] = uint16_t(__popc(alike));
    __syncthreads();
    int sum = 0;
    for (int w = 0; w < kSortWarps; ++w) {
      const int count = in_tile[w][digit_of_thread];
      in_tile[w][digit_of_thread] = uint16_t(sum);
      sum += count;
    }
    __syncthreads();
    if (i < end) {
      const int place = start[digit] + in_tile[warp][digit] + rank;
      k.ids_out[place] = id;
      k.order_out[place] = k.order ? k.order[i] : int32_t(i);
    }
    __syncthreads();
    start[digit_of_thread] += sum;
  }
}

/// What sorting leaves, both [rows].
struct Groups {
  const int32_t *ids, *order;
};

/// Sorts ids [rows]; `workspace` [4 rows]. The first launch also sets `zeros`. At least one row.
inline Groups group_rows(Cuda where, const char* name, View<const int32_t> ids, int64_t vocab, int32_t pad_id,
                         BadIndex::Op op, int32_t* workspace, const SortZeros& zeros) {
  const int64_t rows = ids.size(), tiles = (rows + kSortThreads - 1) / kSortThreads;
  const int64_t chunk_tiles = (tiles + kSortChunks - 1) / kSortChunks;
  const unsigned chunks = blocks_for(tiles, chunk_tiles);
  int32_t *ids_out = workspace, *order_out = ids_out + rows, *ids_in = order_out + rows, *order_in = ids_in + rows;
  SortPass pass{.ids = ids.data,
                .order = nullptr,
                .ids_out = ids_out,
                .order_out = order_out,
                .rows = rows,
                .chunk_rows = chunk_tiles * kSortThreads,
                .chunks = int(chunks),
                .vocab = int32_t(vocab),
                .pad_id = pad_id,
                .shift = 0,
                .bad_index = where.bad_index,
                .op = op};
  const unsigned more = zeros.pack_count ? persistent_blocks(zeros.pack_count, kSortThreads, 2) : 0;
  launch(where, name, {chunks + more, kSortThreads}, place_rows, pass, zeros);
  for (pass.shift = kSortBits; vocab >> pass.shift; pass.shift += kSortBits) {
    std::swap(ids_in, ids_out);
    std::swap(order_in, order_out);
    pass.ids = ids_in, pass.order = order_in;
    pass.ids_out = ids_out, pass.order_out = order_out;
    launch(where, name, {chunks, kSortThreads}, place_rows, pass, SortZeros{});
  }
  return {ids_out, order_out};
}

}  // namespace
}  // namespace libtrain::kernels
