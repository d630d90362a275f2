/// What the tensor-core kernels of attention are made of. A warp owns a strip of 16 rows (queries, or keys where dK and dV are made) and
/// multiplies it with rows of the other kind; scores, probabilities and their gradients live in the fragments of mma.sync.
#pragma once
#include "kernels/cuda/attention.cuh"

namespace libtrain::kernels::attention_fragments {

constexpr int kStrip = 16;
constexpr float kLog2E = 1.44269504088896340736f;

__device__ inline int lane() { return int(threadIdx.x) % kWarp; }

/// A strip by `columns`: element [n][e] is in row row_of(e), column 8 n + column_of(e). Four neighbouring lanes hold a row.
template <int columns> struct Fragment {
  float at[columns / 8][4];

  __device__ float (&operator[](int n))[4] { return at[n]; }
  __device__ const float (&operator[](int n) const)[4] { return at[n]; }
};
__device__ inline int row_of(int e) { return lane() / 4 + e / 2 * 8; }
__device__ inline int column_of(int e) { return lane() % 4 * 2 + e % 2; }

/// Rows of D elements in shared memory. The 16-byte chunks of a row are permuted by XOR, so that the chunks with one number of eight
/// consecutive rows, which ldmatrix reads at a time, lie in different banks.
template <int D> struct RowTile {
  bf16* data;

  __device__ bf16* chunk(int row, int number) const {
    const int twist = D % 64 == 0 ? row & 7 : row >> 1 & 3;
    return data + row * D + (number ^ twist) * 8;
  }
};

/// Rows of one head of one sequence.
template <class T> struct HeadRows {
  T* data;
  int64_t stride;
  int count;

  __device__ T* at(int row) const { return data + row * stride; }
};

template <int D, class T> __device__ inline HeadRows<T> queries_of(PackedRows<T> rows, const AttentionUnit& u) {
  return {head_of(rows, u.first_query, u.head, D), rows.stride, u.queries};
}
template <int D, class T> __device__ inline HeadRows<T> keys_of(PackedRows<T> rows, const AttentionUnit& u) {
  return {head_of(rows, u.first_key, u.head, D), rows.stride, u.keys};
}

/// Starts copying rows first … first + rows - 1 to a tile; those that do not exist become zero. The work of `threads` threads.
template <int D> __device__ inline void load_rows(RowTile<D> tile, const HeadRows<const bf16>& from, int first,
                                                  int rows, int thread, int threads) {
  constexpr int kChunks = D / 8;
#pragma unroll 4
  for (int i = thread; i < rows * kChunks; i += threads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const bool there = first + row < from.count;
    ptx::cp_async_16(tile.chunk(row, chunk), from.at(there ? first + row : 0) + chunk * 8, there ? 16 : 0);
  }
}

/// Products with fewer than all columns (rows of y) leave out groups of 16: `groups` are computed.
__device__ inline int groups_of(int columns) { return (columns + kStrip - 1) / kStrip; }

/// result = the strip of x that begins with x_row, times rows of y from y_row on, transposed. What is left out is zero.
template <int D, int columns> __device__ inline void multiply_rows(Fragment<columns>& result, RowTile<D> x, int x_row,
                                                                   RowTile<D> y, int y_row, int groups) {
#pragma unroll
  for (int n = 0; n < columns / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) result[n][e] = 0;
  const int x_at = x_row + lane() % 16, y_at = y_row + lane() % 8 + lane() / 16 * 8;
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t a[4], b[4];
    ptx::ldmatrix_x4(a, x.chunk(x_at, 2 * k + lane() / 16));
#pragma unroll
    for (int n = 0; n < columns / 16; ++n) {
      if (n >= groups) break;
      ptx::ldmatrix_x4(b, y.chunk(y_at + 16 * n, 2 * k + lane() / 8 % 2));
      ptx::mma_bf16(result[2 * n], a, b[0], b[1]);
      ptx::mma_bf16(result[2 * n + 1], a, b[2], b[3]);
    }
  }
}

/// The k-th 16 columns of x, rounded to bf16, as the first factor of a product.
template <int columns> __device__ inline void pack_factor(uint32_t (&a)[4], const Fragment<columns>& x, int k) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = ptx::pack_bf16(x[2 * k + i / 2][i % 2 * 2], x[2 * k + i / 2][i % 2 * 2 + 1]);
}

/// result += x, rounded to bf16, times rows of y from y_row on.
template <int D, int columns> __device__ inline void add_product(Fragment<D>& result, const Fragment<columns>& x,
                                                                 RowTile<D> y, int y_row, int groups) {
#pragma unroll
  for (int k = 0; k < columns / 16; ++k) {
    if (k >= groups) break;
    uint32_t a[4];
    pack_factor(a, x, k);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      uint32_t b[4];
      ptx::ldmatrix_x4_trans(b, y.chunk(y_row + 16 * k + lane() % 16, 2 * n + lane() / 16));
      ptx::mma_bf16(result[2 * n], a, b[0], b[1]);
      ptx::mma_bf16(result[2 * n + 1], a, b[2], b[3]);
    }
  }
}

/// The sum over the four lanes that hold a row, in each of them.
__device__ inline float row_sum(float share) { return warp_reduce<Sum, 4>(share); }

/// Four words of each of four neighbouring lanes: word i of lane j becomes word j of lane i.
__device__ inline void transpose_quad(uint32_t (&word)[4]) {
  const bool odd = lane() & 1, upper = lane() & 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t got = __shfl_xor_sync(kAllLanes, odd ? word[i] : word[i + 1], 1);
    word[i] = odd ? got : word[i];
    word[i + 1] = odd ? word[i + 1] : got;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t got = __shfl_xor_sync(kAllLanes, upper ? word[i] : word[i + 2], 2);
    word[i] = upper ? got : word[i];
    word[i + 2] = upper ? word[i + 2] : got;
  }
}

/// A strip times `factor` of each of a lane's two rows → rows first … of `to`, 16 bytes a lane.
template <int D> __device__ inline void store_strip(const HeadRows<bf16>& to, int first, const Fragment<D>& strip,
                                                    const float (&factor)[2], bool accumulate) {
#pragma unroll
  for (int n = 0; n < D / 8; n += 4)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + row_of(2 * half);
      const bool there = row < to.count;
      bf16* const chunk = to.at(there ? row : 0) + 8 * (n + lane() % 4);
      uint32_t word[4] = {};
      if (accumulate) {  // each lane reads what it will write
        const uint4 old = there ? load_16(chunk) : make_uint4(0, 0, 0, 0);
        word[0] = old.x, word[1] = old.y, word[2] = old.z, word[3] = old.w;
        transpose_quad(word);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i)
        word[i] = ptx::pack_bf16(strip[n + i][2 * half] * factor[half] + detail::low_half(word[i]),
                                 strip[n + i][2 * half + 1] * factor[half] + detail::high_half(word[i]));
      transpose_quad(word);
      if (there) store_16(chunk, make_uint4(word[0], word[1], word[2], word[3]));
    }
}

/// The scores of queries first_query … with keys first_key … that the mask hides become -inf. Rows are queries.
template <int columns>
__device__ inline void hide_keys(Fragment<columns>& scores, const AttentionMask& mask, int first_query, int first_key) {
  if (first_key + columns <= mask.visible_keys(first_query)) return;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int visible = mask.visible_keys(first_query + row_of(e)) - first_key - column_of(e);
#pragma unroll
    for (int n = 0; n < columns / 8; ++n) scores[n][e] = 8 * n < visible ? scores[n][e] : -INFINITY;
  }
}

/// Likewise where rows are keys and columns queries.
template <int columns> __device__ inline void hide_keys_in_rows(Fragment<columns>& scores, const AttentionMask& mask,
                                                                int first_key, int first_query) {
  if (first_key + kStrip <= mask.visible_keys(first_query)) return;
#pragma unroll
  for (int n = 0; n < columns / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (first_key + row_of(e) >= mask.visible_keys(first_query + 8 * n + column_of(e))) scores[n][e] = -INFINITY;
}

/// Dropout's coins for a fragment whose rows are queries: bit 4 n + e. A lane draws for one query and eight keys, a quad shares.
template <int columns> __device__ inline uint32_t coins_of_fragment(const AttentionDropout& dropout, int first_query,
                                                                    int first_key, int groups) {
  if (!dropout.active) return ~0u;
  uint32_t coins = 0;
#pragma unroll
  for (int n = 0; n < columns / 8; n += 2) {
    if (n / 2 >= groups) break;
    const int i = lane() % 4, query = first_query + lane() / 4 + i % 2 * 8, block = first_key / 8 + n + i / 2;
    const uint32_t drawn = gather_bytes<1>(dropout.coins(query, block)) >> column_of(0);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair)  // rows g and g + 8 of column block n, then of n + 1
      coins |= (drawn >> 8 * pair & 3) << (4 * n + 2 * pair);
  }
  return coins;
}

/// Likewise where rows are keys. The eight lanes that hold a column share what they draw for it and its neighbours.
template <int columns>
__device__ inline uint32_t coins_of_rows(const AttentionDropout& dropout, int first_key, int first_query, int groups) {
  if (!dropout.active) return ~0u;
  uint32_t coins = 0;
#pragma unroll
  for (int n = 0; n < columns / 8; n += 2) {
    if (n / 2 >= groups) break;
    const int i = lane() / 4, query = first_query + 8 * (n + i / 4) + column_of(i % 2);
    const uint2 drawn = gather_eight_bytes<4>(dropout.coins(query, first_key / 8 + i / 2 % 2));
#pragma unroll
    for (int e = 0; e < 4; ++e) {  // byte e: rows g + 8 (e / 2), the column's e % 2
      coins |= (drawn.x >> (8 * e + i) & 1) << (4 * n + e);
      coins |= (drawn.y >> (8 * e + i) & 1) << (4 * n + 4 + e);
    }
  }
  return coins;
}

}  // namespace libtrain::kernels::attention_fragments
