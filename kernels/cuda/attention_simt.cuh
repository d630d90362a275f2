/// Tiles of 32 x 32 elements in shared memory and their products, on CUDA cores: what attention_simt.cu is made of.
#pragma once
#include "kernels/cuda/attention.cuh"

namespace libtrain::kernels::attention_simt {

constexpr int kTile = 32;             // rows and columns of every tile
constexpr int kSlab = 2;              // tiles of columns of the result that a block owns
constexpr int kThreads = 128;         // 16 x 8, each with
constexpr int kRows = 2, kParts = 4;  // so many rows and columns of a tile
constexpr int kLanes = 8;             // neighbours that share their rows

/// A tile in shared memory. Rows are longer by 16 bytes, so that the packs of eight neighbouring rows lie in different banks.
template <class A> struct alignas(16) Tile {
  static constexpr int kStride = kTile + Pack<A>::kSize;
  A data[kTile * kStride];

  __device__ A* at(int row, int column) { return data + row * kStride + column; }
  __device__ const A* at(int row, int column) const { return data + row * kStride + column; }
};

/// What a thread owns of a tile: rows row() + r, and columns column(j) of scores or result_column(c) of results.
__device__ inline int row() { return int(threadIdx.x) / kLanes * kRows; }
__device__ inline int column(int j) { return int(threadIdx.x) % kLanes + kLanes * j; }
template <class A> __device__ inline int result_column(int c) {
  constexpr int kSize = Pack<A>::kSize;
  return c / kSize * kLanes * kSize + int(threadIdx.x) % kLanes * kSize + c % kSize;
}

template <class A> using Part = A[kRows][kParts];

/// part += x y^T: rows of x with rows of y.
template <class A> __device__ inline void add_scores(Part<A>& part, const Tile<A>& x, const Tile<A>& y) {
  constexpr int kSize = Pack<A>::kSize;
#pragma unroll 2
  for (int k = 0; k < kTile; k += kSize) {
    Pack<A> a[kRows], b[kParts];
#pragma unroll
    for (int r = 0; r < kRows; ++r) a[r] = load_pack(x.at(row() + r, k));
#pragma unroll
    for (int j = 0; j < kParts; ++j) b[j] = load_pack(y.at(column(j), k));
#pragma unroll
    for (int i = 0; i < kSize; ++i)
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int j = 0; j < kParts; ++j) part[r][j] += a[r].at[i] * b[j].at[i];
  }
}

/// part += x y: rows of x with columns of y.
template <class A> __device__ inline void add_product(Part<A>& part, const Tile<A>& x, const Tile<A>& y) {
  constexpr int kSize = Pack<A>::kSize;
#pragma unroll 1
  for (int k = 0; k < kTile; k += kSize) {
    Pack<A> a[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) a[r] = load_pack(x.at(row() + r, k));
#pragma unroll
    for (int i = 0; i < kSize; ++i)
#pragma unroll
      for (int c = 0; c < kParts; c += kSize) {
        const Pack<A> b = load_pack(y.at(k + i, result_column<A>(c)));
#pragma unroll
        for (int r = 0; r < kRows; ++r)
#pragma unroll
          for (int e = 0; e < kSize; ++e) part[r][c + e] += a[r].at[i] * b.at[e];
      }
  }
}

/// Rows of one head of one sequence.
template <class T> struct Rows {
  T* data;
  int64_t stride;
  int count, columns;

  __device__ T* at(int row, int column) const { return data + row * stride + column; }
};

template <class T>
__device__ inline Rows<T> rows_of(PackedRows<T> x, int64_t first, int count, int head, int64_t head_dim) {
  return {head_of(x, first, head, head_dim), x.stride, count, int(head_dim)};
}

/// Rows first_row … + 31, columns first_column … + 31 → tile; what is not there is zero. `packs`: see Plan.
template <class T, class A>
__device__ inline void load_tile(Tile<A>& tile, const Rows<const T>& x, int first_row, int first_column, bool packs) {
  if (!packs) {
#pragma unroll 1
    for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
      const int r = i / kTile, c = i % kTile;
      const bool there = first_row + r < x.count && first_column + c < x.columns;
      *tile.at(r, c) = there ? A(*x.at(first_row + r, first_column + c)) : A(0);
    }
    return;
  }
  constexpr int kSize = Pack<T>::kSize, kPacks = kTile / kSize, kPart = Pack<A>::kSize;
#pragma unroll 2
  for (int i = threadIdx.x; i < kTile * kPacks; i += kThreads) {
    const int r = i / kPacks, c = i % kPacks * kSize;
    Pack<T> values{};
    if (first_row + r < x.count && first_column + c < x.columns)
      values = load_pack(x.at(first_row + r, first_column + c));
#pragma unroll
    for (int part = 0; part < kSize; part += kPart) {
      Pack<A> stored;
#pragma unroll
      for (int e = 0; e < kPart; ++e) stored.at[e] = values.at[part + e];
      store_pack(tile.at(r, c + part), stored);
    }
  }
}

/// A thread's part of a result, times `factor` of each row, → rows first_row … of x, columns first_column ….
template <class T, class A> __device__ inline void store_part(const Rows<T>& x, int first_row, int first_column,
                                                              const Part<A>& part, const A (&factor)[kRows],
                                                              bool accumulate, bool packs) {
  constexpr int kSize = Pack<A>::kSize;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first_row + row() + r >= x.count) continue;
#pragma unroll
    for (int c = 0; c < kParts; c += kSize) {
      const int at_column = first_column + result_column<A>(c);
      T* const to = x.at(first_row + row() + r, at_column);
      if (std::is_same_v<T, A> && packs && at_column < x.columns) {
        Pack<A> values = accumulate ? load_pack(reinterpret_cast<A*>(to)) : Pack<A>{};
#pragma unroll
        for (int e = 0; e < kSize; ++e) values.at[e] += part[r][c + e] * factor[r];
        store_pack(reinterpret_cast<A*>(to), values);
        continue;
      }
#pragma unroll
      for (int e = 0; e < kSize; ++e)
        if (at_column + e < x.columns) put(to[e], part[r][c + e] * factor[r], accumulate);
    }
  }
}

/// part = rows of x (from first_x) with rows of y (from first_y), over all columns. Begins and ends with the tiles free.
template <class T, class A> __device__ inline void score_tile(Part<A>& part, Tile<A>& x_tile, Tile<A>& y_tile,
                                                              const Rows<const T>& x, int first_x,
                                                              const Rows<const T>& y, int first_y, bool packs) {
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int j = 0; j < kParts; ++j) part[r][j] = 0;
#pragma unroll 1
  for (int c = 0; c < x.columns; c += kTile) {
    load_tile(x_tile, x, first_x, c, packs);
    load_tile(y_tile, y, first_y, c, packs);
    __syncthreads();
    add_scores(part, x_tile, y_tile);
    __syncthreads();
  }
}

/// result += x times rows of y (from first_y), of which the slab of columns from first_column on is loaded through y_tile. The tile x
/// has been written by this block's threads, and y_tile is free; both are free at the end.
template <class T, class A> __device__ inline void add_to_slab(Part<A> (&result)[kSlab], const Tile<A>& x,
                                                               Tile<A>& y_tile, const Rows<const T>& y, int first_y,
                                                               int first_column, bool packs) {
#pragma unroll
  for (int s = 0; s < kSlab; ++s) {
    if (first_column + s * kTile >= y.columns && s > 0) break;
    load_tile(y_tile, y, first_y, first_column + s * kTile, packs);
    __syncthreads();
    add_product(result[s], x, y_tile);
    __syncthreads();
  }
}

template <class T, class A> __device__ inline void store_slab(const Rows<T>& x, int first_row, int first_column,
                                                              const Part<A> (&result)[kSlab], const A (&factor)[kRows],
                                                              bool accumulate, bool packs) {
#pragma unroll
  for (int s = 0; s < kSlab; ++s)
    store_part(x, first_row, first_column + s * kTile, result[s], factor, accumulate, packs);
}

}  // namespace libtrain::kernels::attention_simt
