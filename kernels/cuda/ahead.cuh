/// Packs that a thread will need next, on their way while it computes.
#pragma once
#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {

/// `count` packs for each thread of a block: copied to shared memory, so that they hold no registers until they are taken. A thread reads
/// what it has copied itself, so that there are no barriers. With `on` false they are read when they are taken.
template <class T, int count, bool on> struct PacksAhead {
  static constexpr size_t kSharedBytes = on ? size_t(count) * kBlockThreads * sizeof(uint4) : 0;  // dynamic ones
  uint4* own;  // every kBlockThreads-th is the thread's

  /// `shared`: kSharedBytes of the block; `thread`: this one's number in it.
  __device__ PacksAhead(unsigned char* shared, unsigned thread) : own(reinterpret_cast<uint4*>(shared) + thread) {}

  /// Starts copying pack n, whose place is free once it has been taken. wait() waits for what commit() has closed, all but the latest
  /// `pending` times.
  __device__ void fetch(int n, const T* from) const {
    if constexpr (on) ptx::cp_async_16(own + n * kBlockThreads, from);
  }
  __device__ void commit() const {
    if constexpr (on) ptx::cp_async_commit();
  }
  template <int pending = 0> __device__ void wait() const {
    if constexpr (on) ptx::cp_async_wait<pending>();
  }
  /// Pack n as it is stored. Only where `on`.
  __device__ uint4 take(int n) const {
    static_assert(on);
    return load_16(own + n * kBlockThreads);
  }
  /// The elements of pack n, or where packs are not under way the `width` elements at `from`.
  template <int width> __device__ Elements<T, width> take_elements(int n, const T* from) const {
    if constexpr (on)
      return unpacked<T>(take(n));
    else
      return load_elements<width>(from);
  }
};

}  // namespace libtrain::kernels
