/// Neighbouring elements at once, and how the threads of a grid divide arrays, matrices and rows among themselves.
#pragma once
#include "kernels/cuda/common.cuh"

namespace libtrain::kernels {

constexpr int kBlockThreads = 256;  // of kernels that give no reason for another number

// ---- Neighbouring elements ----------------------------------------------------------------------------------------------

/// `width` is 1, that of a Pack or a multiple (then their address is a multiple of 16), or less than a Pack's (then it is a multiple of their
/// size).
template <int width, class T> __device__ inline Elements<T, width> load_elements(const T* from) {
  if constexpr (width == 1) {
    return {{accum_t<T>(*from)}};
  } else if constexpr (width * sizeof(T) == 8) {
    const uint2 bits = load_8(from);
    if constexpr (width == 2)
      return {{__uint_as_float(bits.x), __uint_as_float(bits.y)}};
    else
      return {
          {detail::low_half(bits.x), detail::high_half(bits.x), detail::low_half(bits.y), detail::high_half(bits.y)}};
  } else if constexpr (width * sizeof(T) == 4) {
    return {{accum_t<T>(from[0]), accum_t<T>(from[1])}};
  } else {
    constexpr int kSize = Pack<T>::kSize;
    static_assert(width % kSize == 0);
    Elements<T, width> elements;
#pragma unroll
    for (int i = 0; i < width; i += kSize) {
      const Pack<T> pack = load_pack(from + i);
#pragma unroll
      for (int j = 0; j < kSize; ++j) elements.at[i + j] = pack.at[j];
    }
    return elements;
  }
}

template <class T, int width> __device__ inline void store_elements(T* to, const Elements<T, width>& elements) {
  if constexpr (width == 1) {
    *to = T(elements.at[0]);
  } else if constexpr (width * sizeof(T) == 8) {
    if constexpr (width == 2)
      store_8(to, make_uint2(__float_as_uint(elements.at[0]), __float_as_uint(elements.at[1])));
    else
      store_8(to, make_uint2(ptx::pack_bf16(elements.at[0], elements.at[1]),
                             ptx::pack_bf16(elements.at[2], elements.at[3])));
  } else if constexpr (width * sizeof(T) == 4) {
    to[0] = T(elements.at[0]);
    to[1] = T(elements.at[1]);
  } else {
    constexpr int kSize = Pack<T>::kSize;
#pragma unroll
    for (int i = 0; i < width; i += kSize) {
      Pack<T> pack;
#pragma unroll
      for (int j = 0; j < kSize; ++j) pack.at[j] = elements.at[i + j];
      store_pack(to + i, pack);
    }
  }
}

template <class T, int width>
__device__ inline Elements<T, width> plus(Elements<T, width> a, const Elements<T, width>& b) {
#pragma unroll
  for (int j = 0; j < width; ++j) a.at[j] += b.at[j];
  return a;
}

/// The same values as elements of another type.
template <class To, class From, int width>
__device__ inline Elements<To, width> elements_as(const Elements<From, width>& elements) {
  Elements<To, width> converted;
#pragma unroll
  for (int i = 0; i < width; ++i) converted.at[i] = accum_t<To>(elements.at[i]);
  return converted;
}

/// store_elements where branches have met in the values: in one instruction a pack all the same.
template <class T, int width> __device__ inline void store_elements_whole(T* to, const Elements<T, width>& elements) {
  constexpr int kSize = Pack<T>::kSize;
  if constexpr (width % kSize != 0) {
    store_elements(to, elements);
  } else {
#pragma unroll
    for (int i = 0; i < width; i += kSize) {
      Pack<T> pack;
#pragma unroll
      for (int j = 0; j < kSize; ++j) pack.at[j] = elements.at[i + j];
      store_16_whole(to + i, pack_bits<T>(pack));
    }
  }
}

/// Elements into a gradient: overwritten or added to.
template <class T, int width> __device__ inline void put_elements(T* to, Elements<T, width> elements, bool accumulate) {
  if (accumulate) elements = plus(elements, load_elements<width>(to));
  store_elements_whole(to, elements);
}

/// The same for a pack, where no branches have met in it.
template <class T> __device__ inline void put_pack(T* to, Pack<T> pack, bool accumulate) {
  if (accumulate) pack = plus(pack, load_pack(to));
  store_pack(to, pack);
}

/// Whether all addresses are multiples of 16; nullptr, an argument that was not given, is one.
template <class... T> inline bool aligned_16(const T*... data) {
  return (reinterpret_cast<uintptr_t>(data) | ...) % 16 == 0;
}

// ---- Arrays -------------------------------------------------------------------------------------------------------------

/// An array whose first `packs` packs are accessed whole, and the rest element by element.
struct Flat {
  int64_t size, packs;
};

/// As many packs as the addresses of the arrays (of `size` elements each) allow: all that are full, or none.
template <class T, class... More> inline Flat flat(int64_t size, const T* data, const More*... more) {
  return {size, aligned_16(data, more...) ? size / Pack<T>::kSize : 0};
}

inline LaunchShape flat_shape(Flat f) {
  return {persistent_blocks(f.packs ? f.packs : f.size, kBlockThreads, 8), kBlockThreads};
}

/// Calls each.template operator()<width>(first) for every pack (width: its size) and every remaining element (width: 1); a thread
/// takes each grid's length.
template <class T, class F> __device__ inline void for_elements(Flat f, const F& each) {
  constexpr int kSize = Pack<T>::kSize;
  const int64_t stride = int64_t(gridDim.x) * kBlockThreads, me = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x;
  for (int64_t i = me; i < f.packs; i += stride) each.template operator()<kSize>(i * kSize);
  for (int64_t i = f.packs * kSize + me; i < f.size; i += stride) each.template operator()<1>(i);
}

// ---- Matrices -----------------------------------------------------------------------------------------------------------

/// A thread's share of a matrix: `width` columns from `column` on, in rows row, row + row_stride, …
struct MatrixThread {
  int64_t column, row, row_stride;
};

template <int width> __device__ inline MatrixThread matrix_thread() {
  return {(blockIdx.x * int64_t(blockDim.x) + threadIdx.x) * width, blockIdx.y * int64_t(blockDim.y) + threadIdx.y,
          int64_t(gridDim.y) * blockDim.y};
}

/// Blocks that are as wide as the rows, up to `kBlockThreads` threads, and as high as is left; all columns have their thread,
/// rows are strided over by a grid of about `per_multiprocessor` blocks.
inline LaunchShape matrix_shape(int64_t rows, int64_t columns, int width, int per_multiprocessor = 8) {
  const int64_t units = (columns + width - 1) / width;
  unsigned x = 1;
  while (x < kBlockThreads && x < units) x *= 2;
  const unsigned y = kBlockThreads / x, across = blocks_for(units, x);
  const int64_t most = int64_t(runtime::multiprocessors()) * per_multiprocessor / (across ? across : 1);
  const int64_t wanted = ceil_div(rows, y), limit = most < 1 ? 1 : most < 65535 ? most : 65535;
  return {dim3(across, unsigned(wanted < limit ? wanted : limit)), dim3(x, y)};
}

// ---- Rows ---------------------------------------------------------------------------------------------------------------

/// The reduction over a group of `group` threads, a warp or the whole block, in every thread.
template <class Op, int group, class A> __device__ inline A group_reduce(A value) {
  if constexpr (group == kWarp)
    return warp_reduce<Op>(value);
  else
    return block_reduce<Op, group>(value);
}

/// What one thread of a group of `group` holds of a row of whole packs: pack i * group + thread, as it is stored.
template <class T, int group, int packs> struct RowPacks {
  static constexpr int kSize = Pack<T>::kSize;
  static constexpr int kColumns = group * packs * kSize;  // of the longest row
  uint4 raw[packs];

  /// Calls each(i, column) for the thread's packs that lie in a row of `columns` elements.
  template <class F> __device__ static void for_packs(int thread, int columns, const F& each) {
#pragma unroll
    for (int i = 0; i < packs; ++i) {
      const int column = (i * group + thread) * kSize;
      if (column < columns) each(i, column);
    }
  }

  __device__ void load(const T* row, int thread, int columns) {
    for_packs(thread, columns, [&](int i, int column) { raw[i] = load_16(row + column); });
  }
  __device__ Pack<T> operator[](int i) const { return unpacked<T>(raw[i]); }
};

}  // namespace libtrain::kernels
