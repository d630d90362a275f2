/// What the tensor-core kernels of attention are made of. A warp owns a strip of 16 rows (queries, or keys where dK and dV are made) and
/// multiplies it with rows of the other kind; scores, probabilities and their gradients live in the fragments of mma.sync.
#pragma once
#include "kernels/cuda/attention.cuh"

namespace libtrain::kernels::attention_fragments {

constexpr int kStrip = 16;

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

/// Rows of one head of one sequence. attention.cu sees to it that 32 bits hold the bytes between rows: a place is then one multiplication.
template <class T> struct HeadRows {
  T* data;
  int row_bytes, count;

  __device__ T* at(int row) const {
    using Byte = std::conditional_t<std::is_const_v<T>, const unsigned char, unsigned char>;
    return reinterpret_cast<T*>(reinterpret_cast<Byte*>(data) + int64_t(row) * row_bytes);
  }
};

template <int D, class T> __device__ inline HeadRows<T> queries_of(PackedRows<T> rows, const AttentionUnit& u) {
  return {head_of(rows, u.first_query, u.head, D), int(rows.stride * sizeof(T)), u.queries};
}
template <int D, class T> __device__ inline HeadRows<T> keys_of(PackedRows<T> rows, const AttentionUnit& u) {
  return {head_of(rows, u.first_key, u.head, D), int(rows.stride * sizeof(T)), u.keys};
}

/// Starts copying rows first … first + rows - 1 to a tile; those that do not exist become zero. The work of `threads` threads, whole warps.
template <int D> __device__ inline void load_rows(RowTile<D> tile, const HeadRows<const bf16>& from, int first,
                                                  int rows, int thread, int threads) {
  constexpr int kChunks = D / 8;
  const auto load = [&](int row, int chunk) {
    const bool there = first + row < from.count;
    ptx::cp_async_16(tile.chunk(row, chunk), from.at(there ? first + row : 0) + chunk * 8, there ? 16 : 0);
  };
  if constexpr (kWarp % kChunks == 0) {  // a thread keeps its chunk
    const int step = threads / kChunks;
#pragma unroll 4
    for (int begin = 0; begin < rows; begin += step)
      if (const int row = begin + thread / kChunks; rows % step == 0 || row < rows) load(row, thread % kChunks);
  } else {
#pragma unroll 4
    for (int i = thread; i < rows * kChunks; i += threads) load(i / kChunks, i % kChunks);
  }
}

/// Products with fewer than all columns (rows of y) leave out groups of 16: `groups` are computed.
__device__ inline int groups_of(int columns) { return (columns + kStrip - 1) / kStrip; }

/// The row whose address a lane gives, of a strip as the first factor, and of 16 rows that are transposed. Asked for ahead of a loop over
/// columns: asked for in it, it makes the kernels for heads of 128 longer.
__device__ inline int factor_row(int x_row) { return x_row + lane() % 16; }
__device__ inline int transposed_row(int y_row) { return y_row + lane() % 8 + lane() / 16 * 8; }

/// Columns 16 k … of a strip of x, as the first factor of a product. x_at: factor_row().
template <int D> __device__ inline void load_factor(uint32_t (&a)[4], RowTile<D> x, int x_at, int k) {
  ptx::ldmatrix_x4(a, x.chunk(x_at, 2 * k + lane() / 16));
}

/// A strip of D columns, in bf16, as the first factor of products with more than one group of rows.
template <int D> struct StripFactor {
  uint32_t at[D / 16][4];

  __device__ StripFactor(RowTile<D> x, int x_row) {
    const int x_at = factor_row(x_row);
#pragma unroll
    for (int k = 0; k < D / 16; ++k) load_factor(at[k], x, x_at, k);
  }
};

/// Columns 8 n … 8 n + 15 of result += columns 16 k … of a strip, `a`, times 16 rows of y, transposed. y_at: transposed_row().
template <int D, int columns> __device__ inline void add_transposed(Fragment<columns>& result, int n,
                                                                    const uint32_t (&a)[4], RowTile<D> y, int y_at,
                                                                    int k) {
  uint32_t b[4];
  ptx::ldmatrix_x4(b, y.chunk(y_at, 2 * k + lane() / 8 % 2));
  ptx::mma_bf16(result[n], a, b[0], b[1]);
  ptx::mma_bf16(result[n + 1], a, b[2], b[3]);
}

/// result = the strip of x that begins with x_row, times rows of y from y_row on, transposed. What is left out is zero.
template <int D, int columns> __device__ inline void multiply_rows(Fragment<columns>& result, RowTile<D> x, int x_row,
                                                                   RowTile<D> y, int y_row, int groups) {
  result = {};
  const int x_at = factor_row(x_row), y_at = transposed_row(y_row);
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t a[4];
    load_factor(a, x, x_at, k);
#pragma unroll
    for (int n = 0; n < columns / 16; ++n) {
      if (n >= groups) break;
      add_transposed(result, 2 * n, a, y, y_at + 16 * n, k);
    }
  }
}
/// The same of a strip that is in registers, and 16 rows of y.
template <int D>
__device__ inline void multiply_rows(Fragment<kStrip>& result, const StripFactor<D>& x, RowTile<D> y, int y_row) {
  result = {};
  const int y_at = transposed_row(y_row);
#pragma unroll
  for (int k = 0; k < D / 16; ++k) add_transposed(result, 0, x.at[k], y, y_at, k);
}

/// The k-th 16 columns of x, rounded to bf16, as the first factor of a product.
template <int columns> __device__ inline void pack_factor(uint32_t (&a)[4], const Fragment<columns>& x, int k) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = ptx::pack_bf16(x[2 * k + i / 2][i % 2 * 2], x[2 * k + i / 2][i % 2 * 2 + 1]);
}

/// result += a times rows y_row … y_row + 15 of y.
template <int D> __device__ inline void add_rows(Fragment<D>& result, const uint32_t (&a)[4], RowTile<D> y, int y_row) {
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    uint32_t b[4];
    ptx::ldmatrix_x4_trans(b, y.chunk(y_row + lane() % 16, 2 * n + lane() / 16));
    ptx::mma_bf16(result[2 * n], a, b[0], b[1]);
    ptx::mma_bf16(result[2 * n + 1], a, b[2], b[3]);
  }
}

/// result += x, rounded to bf16, times rows of y from y_row on.
template <int D, int columns> __device__ inline void add_product(Fragment<D>& result, const Fragment<columns>& x,
                                                                 RowTile<D> y, int y_row, int groups) {
#pragma unroll
  for (int k = 0; k < columns / 16; ++k) {
    if (k >= groups) break;
    uint32_t a[4];
    pack_factor(a, x, k);
    add_rows(result, a, y, y_row + 16 * k);
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

/// Two words of each of two neighbouring lanes: word i of lane j becomes word j of lane i.
__device__ inline void transpose_pair(uint32_t (&word)[2]) {
  const bool odd = lane() & 1;
  const uint32_t got = __shfl_xor_sync(kAllLanes, odd ? word[0] : word[1], 1);
  word[0] = odd ? got : word[0];
  word[1] = odd ? word[1] : got;
}

/// A strip times `factor` of each of a lane's two rows → rows first … of `to`, 8 bytes a lane: a quad writes 32 at a time.
template <bool accumulate, int D> __device__ inline void put_strip(const HeadRows<bf16>& to, int first,
                                                                   const Fragment<D>& strip, const float (&factor)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + row_of(2 * half);
    const bool there = row < to.count;
    bf16* const place = to.at(there ? row : 0) + lane() % 2 * 8 + lane() / 2 % 2 * 4;
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      uint32_t word[2] = {};
      if constexpr (accumulate) {  // each lane reads what it will write
        const uint2 old = there ? load_8(place + 8 * n) : make_uint2(0, 0);
        word[0] = old.x, word[1] = old.y;
        transpose_pair(word);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float x = strip[n + i][2 * half] * factor[half], y = strip[n + i][2 * half + 1] * factor[half];
        if constexpr (accumulate) x += detail::low_half(word[i]), y += detail::high_half(word[i]);
        word[i] = ptx::pack_bf16(x, y);
      }
      transpose_pair(word);
      if (there) store_8(place + 8 * n, make_uint2(word[0], word[1]));
    }
  }
}
template <int D> __device__ inline void store_strip(const HeadRows<bf16>& to, int first, const Fragment<D>& strip,
                                                    const float (&factor)[2], bool accumulate) {
  if (accumulate)
    put_strip<true>(to, first, strip, factor);
  else
    put_strip<false>(to, first, strip, factor);
}

/// The scores of 16 queries first_query … with 16 keys first_key …, those of the last 8 in `high`, become -inf where the mask hides them. Rows
/// are queries.
__device__ inline void hide_group(float (&low)[4], float (&high)[4], const AttentionMask& mask, int first_query,
                                  int first_key) {
  if (first_key + kStrip <= mask.visible_keys(first_query)) return;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int visible = mask.visible_keys(first_query + row_of(e)) - first_key - column_of(e);
    low[e] = 0 < visible ? low[e] : -INFINITY;
    high[e] = 8 < visible ? high[e] : -INFINITY;
  }
}

/// Likewise for a fragment, most of which hide nothing: that is asked once.
template <int columns>
__device__ inline void hide_keys(Fragment<columns>& scores, const AttentionMask& mask, int first_query, int first_key) {
  if (first_key + columns <= mask.visible_keys(first_query)) return;
#pragma unroll
  for (int n = 0; n < columns / 8; n += 2) hide_group(scores[n], scores[n + 1], mask, first_query, first_key + 8 * n);
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

/// Calls act(e, keeps) with dropout's coin for each element of 16 queries by 16 keys, [e / 4][e % 4] of a fragment; not where nothing is
/// dropped. A lane draws for one query and eight keys, and gives each lane of its quad the bits of its columns.
template <class Act>
__device__ inline void for_coins(const AttentionDropout& dropout, int first_query, int first_key, const Act& act) {
  if (!dropout.active) return;
  const int i = lane() % 4, query = first_query + lane() / 4 + i % 2 * 8;
  const auto drawn = dropout.words(query, first_key / 8 + i / 2);
  uint32_t word[4] = {drawn[0], drawn[1], drawn[2], drawn[3]};
  transpose_quad(word);
#pragma unroll
  for (int e = 0; e < 8; e += 2) {
    act(e, dropout.keeps_even(word[e / 2]));
    act(e + 1, dropout.keeps_odd(word[e / 2]));
  }
}

/// Probabilities of 16 queries with 16 keys, those of the last 8 in `high`, become zero where dropout's coins say so. Rows are queries.
__device__ inline void drop_group(float (&low)[4], float (&high)[4], const AttentionDropout& dropout, int first_query,
                                  int first_key) {
  for_coins(dropout, first_query, first_key, [&](int e, bool keeps) {
    float& p = e < 4 ? low[e % 4] : high[e % 4];
    p = keeps ? p : 0;
  });
}

/// Likewise for the first `groups` times 16 columns of a fragment.
template <int columns> __device__ inline void drop_keys(Fragment<columns>& p, const AttentionDropout& dropout,
                                                        int first_query, int first_key, int groups) {
  if (!dropout.active) return;
#pragma unroll
  for (int n = 0; n < columns / 8; n += 2) {
    if (n / 2 >= groups) break;
    drop_group(p[n], p[n + 1], dropout, first_query, first_key + 8 * n);
  }
}

/// Dropout's coins for a fragment whose rows are keys: bit 4 n + e. The eight lanes that hold a column share what they draw for it and its neighbours.
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
