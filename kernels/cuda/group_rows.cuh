/// Rows sorted by the id that each holds, in rising order within an id: a radix sort of (id, row) from the low digits up. A pass
/// is two launches: each chunk of rows counts its digits; then each chunk adds up where its rows of every digit begin, and places
/// them in order. No place depends on which thread or block came first. Rows that count for nothing come last, under id `vocab`.
/// Source: Satish, Harris, Garland, "Designing efficient sorting algorithms for manycore GPUs", IPDPS 2009.
#pragma once
#include <utility>

#include "kernels/cuda/common.cuh"
#include "kernels/embedding.h"

namespace libtrain::kernels {
namespace {

constexpr int kSortThreads = int(kSortDigits), kSortWarps = kSortThreads / kWarp, kSortBits = 9;

/// One pass. All arrays are [rows] but for counts [chunks, kSortDigits].
struct SortPass {
  const int32_t *ids, *order;  // as the pass before left them; without `order`, row i stands at i
  int32_t *ids_out, *order_out;
  int32_t* counts;
  int64_t rows, chunk_rows;
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

/// How often each digit occurs in the chunk of a block; the first pass also notes ids that are none.
__global__ void __launch_bounds__(kSortThreads) count_digits(SortPass k) {
  __shared__ int count[kSortDigits];
  count[threadIdx.x] = 0;
  __syncthreads();
  const int64_t begin = blockIdx.x * k.chunk_rows, end = begin + k.chunk_rows < k.rows ? begin + k.chunk_rows : k.rows;
  for (int64_t i = begin + threadIdx.x; i < end; i += kSortThreads) {
    const int32_t id = sorted_id(k, i);
    atomicAdd(&count[sort_digit(k, id)], 1);
    if (!k.order && id == k.vocab && (k.ids[i] < 0 || k.ids[i] != k.pad_id))
      note_bad_index(k.bad_index, {k.op, -1, i, k.ids[i], k.vocab});
  }
  __syncthreads();
  k.counts[blockIdx.x * kSortDigits + threadIdx.x] = count[threadIdx.x];
}

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

/// Where the rows of digit threadIdx.x begin that stand in the chunk of this block.
__device__ inline int first_place(const int32_t* counts) {
  int total = 0, before = 0;
#pragma unroll 8
  for (int chunk = 0; chunk < int(gridDim.x); ++chunk) {
    const int count = counts[chunk * kSortDigits + threadIdx.x];
    total += count;
    before += chunk < int(blockIdx.x) ? count : 0;
  }
  return sum_before(total) + before;
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

/// Places the rows of a block's chunk, kSortThreads at a time: by digit, then chunk, then as they stand.
__global__ void __launch_bounds__(kSortThreads) place_rows(SortPass k) {
  __shared__ int start[kSortDigits];                     // where the next row of each digit goes
  __shared__ uint16_t in_tile[kSortWarps][kSortDigits];  // rows of each digit: of a warp, then of the warps before it
  const int digit_of_thread = threadIdx.x, warp = threadIdx.x / kWarp;
  const unsigned lanes_before = (1u << threadIdx.x % kWarp) - 1;
  start[digit_of_thread] = first_place(k.counts);
  const int64_t begin = blockIdx.x * k.chunk_rows, end = begin + k.chunk_rows < k.rows ? begin + k.chunk_rows : k.rows;
  for (int64_t tile = begin; tile < end; tile += kSortThreads) {
    for (int w = 0; w < kSortWarps; ++w) in_tile[w][digit_of_thread] = 0;
    __syncthreads();
    const int64_t i = tile + threadIdx.x;
    const int32_t id = i < end ? sorted_id(k, i) : 0;
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

/// Sorts ids [rows]; `workspace` as embedding_workspace(Cuda, ...) says. At least one row.
inline Groups group_rows(Cuda where, const char* name, View<const int32_t> ids, int64_t vocab, int32_t pad_id,
                         BadIndex::Op op, int32_t* workspace) {
  const int64_t rows = ids.size(), tiles = (rows + kSortThreads - 1) / kSortThreads;
  const int64_t chunk_tiles = (tiles + kSortChunks - 1) / kSortChunks;
  const unsigned chunks = blocks_for(tiles, chunk_tiles);
  int32_t *ids_out = workspace, *order_out = ids_out + rows, *ids_in = order_out + rows, *order_in = ids_in + rows;
  SortPass pass{.ids = ids.data,
                .order = nullptr,
                .ids_out = ids_out,
                .order_out = order_out,
                .counts = order_in + rows,
                .rows = rows,
                .chunk_rows = chunk_tiles * kSortThreads,
                .vocab = int32_t(vocab),
                .pad_id = pad_id,
                .shift = 0,
                .bad_index = where.bad_index,
                .op = op};
  for (; pass.shift == 0 || vocab >> pass.shift; pass.shift += kSortBits) {
    if (pass.shift) {
      std::swap(ids_in, ids_out);
      std::swap(order_in, order_out);
      pass.ids = ids_in, pass.order = order_in;
      pass.ids_out = ids_out, pass.order_out = order_out;
    }
    launch(where, name, {chunks, kSortThreads}, count_digits, pass);
    launch(where, name, {chunks, kSortThreads}, place_rows, pass);
  }
  return {ids_out, order_out};
}

}  // namespace
}  // namespace libtrain::kernels
