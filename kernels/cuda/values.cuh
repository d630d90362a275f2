/// A few neighbouring elements a lane, read and written in one vector access where they make one.
#pragma once
#include "common.cuh"

namespace libtrain::kernels {

/// Elements of 16 bytes: what a lane takes where everything is aligned for it.
template <class T> inline constexpr int kWide = Pack<std::remove_const_t<T>>::kSize;

/// n elements; the address is a multiple of n * sizeof(T), or of 16 if that is less.
template <int n, class T> __device__ inline void load_values(const T* from, accum_t<T> (&to)[n]) {
  if constexpr (n * sizeof(T) >= 16) {
#pragma unroll
    for (int first = 0; first < n; first += kWide<T>) {
      const Pack<T> pack = load_pack(from + first);
#pragma unroll
      for (int i = 0; i < kWide<T>; ++i) to[first + i] = pack.at[i];
    }
  } else if constexpr (n == 4 && sizeof(T) == 2) {
    const uint2 bits = load_8(from);
    to[0] = detail::low_half(bits.x);
    to[1] = detail::high_half(bits.x);
    to[2] = detail::low_half(bits.y);
    to[3] = detail::high_half(bits.y);
  } else {
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = accum_t<T>(from[i]);
  }
}

template <int n, class T> __device__ inline void store_values(T* to, const accum_t<T> (&values)[n]) {
  if constexpr (n * sizeof(T) >= 16) {
#pragma unroll
    for (int first = 0; first < n; first += kWide<T>) {
      Pack<T> pack;
#pragma unroll
      for (int i = 0; i < kWide<T>; ++i) pack.at[i] = values[first + i];
      store_pack(to + first, pack);
    }
  } else if constexpr (n == 4 && sizeof(T) == 2) {
    store_8(to, make_uint2(ptx::pack_bf16(values[0], values[1]), ptx::pack_bf16(values[2], values[3])));
  } else {
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = T(values[i]);
  }
}

/// Likewise for data that is not read again before it has left the cache.
template <int n, class T> __device__ inline void load_values_streaming(const T* from, accum_t<T> (&to)[n]) {
  if constexpr (n == kWide<T>) {
    const Pack<T> pack = load_pack_streaming(from);
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = pack.at[i];
  } else {
    load_values<n>(from, to);
  }
}
template <int n, class T> __device__ inline void store_values_streaming(T* to, const accum_t<T> (&values)[n]) {
  if constexpr (n == kWide<T>) {
    Pack<T> pack;
#pragma unroll
    for (int i = 0; i < n; ++i) pack.at[i] = values[i];
    store_pack_streaming(to, pack);
  } else {
    store_values<n>(to, values);
  }
}

/// Values into a gradient: overwritten or added to.
template <int n, class T> __device__ inline void put_values(T* to, accum_t<T> (&values)[n], bool accumulate) {
  if (accumulate) {
    accum_t<T> old[n];
    load_values<n>(to, old);
#pragma unroll
    for (int i = 0; i < n; ++i) values[i] += old[i];
  }
  store_values<n>(to, values);
}

}  // namespace libtrain::kernels
