/// What all attention kernels share: units of work, which keys a query sees, dropout's coins, rows of no sequence; and the paths that
/// attention.cu chooses between.
#pragma once
#include "kernels/attention.h"
#include "kernels/cuda/common.cuh"

namespace libtrain::kernels {

/// Any type, head size and alignment, on CUDA cores.
template <class T> void attention_forward_simt(Cuda, const Attention<T>&);
template <class T>
void attention_backward_simt(Cuda, const Attention<T>&, View<const T> dout, const AttentionGradients<T>&);

/// Tensor cores, sequences of any length; operands as attention.cu checks them.
void attention_forward_long(Cuda, const Attention<bf16>&);
void attention_backward_long(Cuda, const Attention<bf16>&, View<const bf16> dout, const AttentionGradients<bf16>&);

/// Likewise by Hopper's own instructions, for head sizes 64 and 128.
void attention_forward_hopper(Cuda, const Attention<bf16>&);
void attention_backward_hopper(Cuda, const Attention<bf16>&, View<const bf16> dout, const AttentionGradients<bf16>&);

/// Likewise, a whole sequence in a block.
void attention_forward_short(Cuda, const Attention<bf16>&);
void attention_backward_short(Cuda, const Attention<bf16>&, View<const bf16> dout, const AttentionGradients<bf16>&);

/// Calls f.operator()<D>() for one of the head sizes that the tensor-core kernels exist for.
template <class F> void for_head_size(int64_t head_dim, const F& f) {
  if (head_dim == 32) f.template operator()<32>();
  if (head_dim == 64) f.template operator()<64>();
  if (head_dim == 96) f.template operator()<96>();
  if (head_dim == 128) f.template operator()<128>();
}

/// Blocks at the end of a grid that write the rows of no sequence. Where those begin is known on the device alone. They start last, so
/// that what they take comes on top: a few stores a thread.
constexpr unsigned kTailBlocks = 16;

/// Heads of all sequences.
template <class T> int64_t attention_units(const Attention<T>& a) { return (a.query_ends.dims[0] - 1) * a.heads; }

/// One head of one sequence. Positions within a sequence fit 32 bits, rows and elements do not.
struct AttentionUnit {
  int sequence, head;
  int64_t first_query, first_key;
  int queries, keys;
};

template <class T> __device__ inline AttentionUnit attention_unit(const Attention<T>& a, unsigned index) {
  const unsigned heads = unsigned(a.heads);  // units are numbered in 32 bits, as blocks are
  const int sequence = int(index / heads), head = int(index % heads);
  const int32_t *query = a.query_ends.data + sequence, *key = a.key_ends.data + sequence;
  return {sequence, head, query[0], key[0], query[1] - query[0], key[1] - key[0]};
}

/// Where row `row` of a packed matrix has this head.
template <class T> __device__ inline T* head_of(PackedRows<T> rows, int64_t row, int head, int64_t head_dim) {
  return rows.data + row * rows.stride + head * head_dim;
}

/// Keys that a query sees are those in [0, visible_keys(query)).
struct AttentionMask {
  int keys;
  bool causal;

  __device__ int visible_keys(int query) const { return causal ? min(query + 1, keys) : keys; }
};

/// Dropout's coins for the probabilities of a unit.
struct AttentionDropout {
  bool active;
  float kept;      // factor of what is not dropped
  uint32_t bound;  // the threshold, in the upper half
  DropoutRow unit;
  uint64_t key;

  /// The bits of this query and keys 8 * block …, by twos.
  __device__ std::array<uint32_t, 4> words(int query, int block) const {
    return dropout_words(key, {uint32_t(query), unit.sequence, unit.stream}, uint32_t(block));
  }
  /// Whether the even or the odd key of a word is kept.
  __device__ bool keeps_even(uint32_t word) const { return word << 16 >= bound; }
  __device__ bool keeps_odd(uint32_t word) const { return word >= bound; }

  /// Bit i: whether the probability of this query and key 8 * block + i is kept.
  __device__ uint32_t coins(int query, int block) const {
    const auto word = words(query, block);
    uint32_t kept_bits = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      kept_bits |= uint32_t(keeps_even(word[i])) << 2 * i | uint32_t(keeps_odd(word[i])) << (2 * i + 1);
    return kept_bits;
  }
};

template <class T> __device__ inline AttentionDropout attention_dropout(const Attention<T>& a, const AttentionUnit& u) {
  if (!(a.dropout > 0)) return {false, 1, 0, {}, 0};
  return {true, dropout_scale(a.dropout), dropout_threshold(a.dropout) << 16,
          attention_dropout_row(0, uint32_t(u.sequence), a.stream, uint32_t(u.head)), random_key(*a.state)};
}

/// Bytes of the four lanes that differ in bits `stride` and 2 * stride of their number: byte i is that of the i-th, in all four.
template <int stride> __device__ inline uint32_t gather_bytes(uint32_t byte) {
  uint32_t word = byte << (threadIdx.x / stride % 4 * 8);
  word |= __shfl_xor_sync(kAllLanes, word, stride);
  word |= __shfl_xor_sync(kAllLanes, word, 2 * stride);
  return word;
}

/// Bytes of the eight lanes that differ in bits `stride`, 2 * stride and 4 * stride: bytes 0 … 3 in x, 4 … 7 in y.
template <int stride> __device__ inline uint2 gather_eight_bytes(uint32_t byte) {
  const uint32_t mine = gather_bytes<stride>(byte), other = __shfl_xor_sync(kAllLanes, mine, 4 * stride);
  return threadIdx.x / stride % 8 < 4 ? make_uint2(mine, other) : make_uint2(other, mine);
}

/// Zeroes rows [first, end) of `width` elements, a warp a row: the work of one of the last kTailBlocks blocks of a grid.
template <class T>
__device__ inline void clear_rows(T* data, int64_t stride, int64_t width, int64_t first, int64_t end) {
  constexpr int kSize = Pack<T>::kSize;
  const int lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  const bool packs = reinterpret_cast<uintptr_t>(data) % 16 == 0 && (stride | width) % kSize == 0;
  int64_t row = first + (blockIdx.x + kTailBlocks - gridDim.x) * int64_t(warps) + threadIdx.x / kWarp;
  for (; row < end; row += int64_t(kTailBlocks) * warps) {
    T* const to = data + row * stride;
    if (packs) {
#pragma unroll 1
      for (int64_t i = lane * kSize; i < width; i += kWarp * kSize) store_16(to + i, make_uint4(0, 0, 0, 0));
    } else {
#pragma unroll 1
      for (int64_t i = lane; i < width; i += kWarp) to[i] = T(0.0f);
    }
  }
}

template <class T> __device__ inline void clear_output_tail(const Attention<T>& a) {
  const int64_t width = a.heads * a.head_dim;
  clear_rows(a.out.data, width, width, a.query_ends.data[a.query_ends.dims[0] - 1], a.query_rows);
}

/// Of a gradient, unless it is added to. `like` has its rows, of which `ends` are the sequences.
template <class T> __device__ inline void clear_gradient_tail(const Attention<T>& a, Sink<T> sink,
                                                              PackedRows<const T> like, View<const int32_t> ends,
                                                              int64_t rows) {
  if (!sink.data || sink.accumulate) return;
  clear_rows(sink.data, like.stride, a.heads * a.head_dim, ends.data[ends.dims[0] - 1], rows);
}

}  // namespace libtrain::kernels
