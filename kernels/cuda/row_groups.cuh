/// Rows that a group of threads holds in registers: who does, what it adds up, and what it has ready before it needs it.
#pragma once
#include "kernels/cuda/ahead.cuh"

namespace libtrain::kernels {
namespace {

/// Who holds a row in registers: a warp one of up to 512 (f64: 256) columns, a pair of warps one of twice as many, a block one of eight times
/// as many; nobody. A thread holds as much in each case: more would leave room for too few warps. Numbers, for nvcc makes no stubs of kernels
/// with a class as argument.
constexpr int kAnyRow = 0, kWarpRow = 1, kPairRow = 2, kBlockRow = 3;
constexpr int kPair = 2 * kWarp;
constexpr int threads_of(int group) { return group == kBlockRow ? kBlockThreads : group == kPairRow ? kPair : kWarp; }

/// Packs of a row that a thread of the group holds.
template <class T> constexpr int kPacks = 64 / int(sizeof(accum_t<T>)) / Pack<T>::kSize;
template <class T, int group> using Part = RowPacks<T, threads_of(group), kPacks<T>>;

/// Calls launch.operator()<group>() with the smallest group that can hold a row of whole packs, or kAnyRow where none can.
template <class T, class Launch, class... Data>
void for_group(int64_t columns, const Launch& launch, const Data*... data) {
  if (columns % Pack<T>::kSize != 0 || !aligned_16(data...)) return launch.template operator()<kAnyRow>();
  if (columns <= Part<T, kWarpRow>::kColumns) return launch.template operator()<kWarpRow>();
  if (columns <= Part<T, kPairRow>::kColumns) return launch.template operator()<kPairRow>();
  if (columns <= Part<T, kBlockRow>::kColumns) return launch.template operator()<kBlockRow>();
  launch.template operator()<kAnyRow>();
}

/// Groups of a block, and the rows that one walks: every so many from its first on.
constexpr int kGroups(int group) { return kBlockThreads / threads_of(group); }
template <int group> __device__ int64_t first_row() {
  return blockIdx.x * int64_t(kGroups(group)) + threadIdx.x / threads_of(group);
}
template <int group> __device__ int64_t row_stride() { return int64_t(gridDim.x) * kGroups(group); }

/// Sums over a group, in every thread of it.
template <class A, int threads> struct GroupSum {
  __device__ A operator()(A value) const { return group_reduce<Sum, threads>(value); }
};
/// Two warps tell each other theirs, in two places by turns: so one barrier is enough, and it is their own.
template <class A> struct GroupSum<A, kPair> {
  A* told;  // [2 turns, 2 warps]
  int turn = 0;

  __device__ GroupSum() {
    __shared__ A of_pairs[kBlockThreads / kPair][4];
    told = of_pairs[threadIdx.x / kPair];
  }
  __device__ A operator()(A value) {
    A* const now = told + 2 * turn;
    turn ^= 1;
    value = warp_reduce<Sum>(value);
    if (threadIdx.x % kWarp == 0) now[threadIdx.x / kWarp % 2] = value;
    ptx::named_barrier_sync(1 + int(threadIdx.x) / kPair, kPair);
    return now[0] + now[1];
  }
};

/// What a thread will take of its next row: its packs of `arrays` arrays.
template <class T, int group, int arrays> struct RowAhead : PacksAhead<T, arrays * kPacks<T>, true> {
  using PacksAhead<T, arrays * kPacks<T>, true>::PacksAhead;

  /// Starts copying a row of arrays [begin, end): from(array, column) is where it has that column, nullptr where there is nothing.
  template <int begin, int end, class From> __device__ void fetch_row(int thread, int columns, const From& from) const {
    Part<T, group>::for_packs(thread, columns, [&](int i, int column) {
#pragma unroll
      for (int array = begin; array < end; ++array)
        if (const T* data = from(array, column)) this->fetch(array * kPacks<T> + i, data);
    });
    this->commit();
  }
  /// Pack i of an array, as it is stored, once wait() has returned.
  __device__ uint4 pack(int array, int i) const { return this->take(array * kPacks<T> + i); }
};

/// Numbers of the columns, one for each: where several groups share a block, they share these in shared memory, for they have no registers to
/// spare. To be made by all threads of a block, which then wait for all that they copy (PacksAhead::wait) and meet before they read.
template <class T, int group> struct ColumnPacks {
  static constexpr bool kShared = group == kWarpRow || group == kPairRow;
  using Place = uint4[kShared ? kPacks<T> * threads_of(group) : 1];
  uint4* shared;  // the thread's are every threads_of(group)-th
  Part<T, group> own;

  __device__ ColumnPacks(Place& place, const T* from, int thread, int columns) : shared(place + thread) {
    if (group == kAnyRow || !from) return;
    if constexpr (!kShared)
      own.load(from, thread, columns);
    else if (threadIdx.x < threads_of(group)) {
      own.for_packs(thread, columns,
                    [&](int i, int column) { ptx::cp_async_16(shared + i * threads_of(group), from + column); });
      ptx::cp_async_commit();
    }
  }
  __device__ Pack<T> operator[](int i) const {
    if constexpr (kShared)
      return unpacked<T>(load_16(shared + i * threads_of(group)));
    else
      return own[i];
  }
};

template <class T, int group> using ColumnPlace = typename ColumnPacks<T, group>::Place;

/// Sums over rows that a thread keeps of the columns of its packs, `outs` of each.
template <class T, int group, int outs> struct ColumnSums {
  using A = accum_t<T>;
  static constexpr int kSize = Pack<T>::kSize, kOfThread = kPacks<T> * kSize;
  static constexpr int kPitch = kBlockThreads + kBanks<A> / kSize;  // padded, so that reading columns meets all banks
  static constexpr size_t kSharedBytes = kGroups(group) == 1 ? 0 : size_t(kOfThread) * kPitch * sizeof(A);
  A at[outs][kPacks<T>][kSize];

  __device__ ColumnSums() {
#pragma unroll
    for (int out = 0; out < outs; ++out)
#pragma unroll
      for (int i = 0; i < kPacks<T>; ++i)
#pragma unroll
        for (int j = 0; j < kSize; ++j) at[out][i][j] = 0;
  }

  /// Writes the sums of the block's groups, added up in order, to partial [outs, columns], by way of kSharedBytes that may have held other
  /// things. The whole block calls it.
  __device__ void write(int thread, int columns, A* partial, unsigned char* shared) const {
    if constexpr (kGroups(group) == 1) {
      Part<T, group>::for_packs(thread, columns, [&](int i, int column) {
#pragma unroll
        for (int out = 0; out < outs; ++out) {
          Elements<A, kSize> sum;
#pragma unroll
          for (int j = 0; j < kSize; ++j) sum.at[j] = at[out][i][j];
          store_elements(partial + out * columns + column, sum);
        }
      });
    } else {
      A* const of_threads = reinterpret_cast<A*>(shared);
#pragma unroll
      for (int out = 0; out < outs; ++out) {
        __syncthreads();
#pragma unroll
        for (int n = 0; n < kOfThread; ++n) of_threads[n * kPitch + threadIdx.x] = at[out][n / kSize][n % kSize];
        __syncthreads();
#pragma unroll 1
        for (int c = threadIdx.x; c < columns; c += kBlockThreads)
          partial[out * columns + c] = sum_groups(of_threads, c);
      }
    }
  }

 private:
  __device__ static A sum_groups(const A* of_threads, int column) {
    const int pack = column / kSize, i = pack / threads_of(group);
    const A* const of_group = of_threads + (i * kSize + column % kSize) * kPitch + pack % threads_of(group);
    A sum = of_group[0];
#pragma unroll
    for (int g = 1; g < kGroups(group); ++g) sum += of_group[g * threads_of(group)];
    return sum;
  }
};

}  // namespace
}  // namespace libtrain::kernels
