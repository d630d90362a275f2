/// What CUDA kernels share: packs of 16 bytes, reductions in a fixed order, grids. Kernel sources include this header and no other
/// of CUDA's; the include path decides whether they are compiled for a device or for execution on the CPU (vocabulary.cuh).
///
/// Rules for kernel sources, so that both work: launch() instead of <<<>>>, LIBTRAIN_DYNAMIC_SHARED instead of extern __shared__,
/// PTX through ptx.cuh, no cooperative groups, no std:: functions but constexpr ones, blocks of whole warps, no barrier after an early return, at
/// most one barrier or warp-wide call a source line, no float atomics.
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/bad_index.h"
#include "kernels/dtype.h"
#include "kernels/failure.h"
#include "ptx.cuh"
#include "vocabulary.cuh"

namespace libtrain::kernels {

constexpr unsigned kAllLanes = 0xFFFFFFFFu;
constexpr int kWarp = 32;
constexpr float kLog2E = 1.44269504088896340736f;

/// Neighbours of type A that the banks of shared memory give in one cycle.
template <class A> constexpr int kBanks = 128 / sizeof(A);

/// `width` neighbours in registers, read and written as `accum_t<T>`.
template <class T, int width> struct Elements {
  static constexpr int kSize = width;
  accum_t<T> at[width];
};
/// 16 bytes of them.
template <class T> using Pack = Elements<T, int(16 / sizeof(T))>;

namespace detail {
__device__ inline float low_half(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_half(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }
__device__ inline double as_double(uint32_t low, uint32_t high) { return __hiloint2double(int(high), int(low)); }
}  // namespace detail

/// A pack from what is stored.
template <class T> __device__ inline Pack<T> unpacked(uint4 bits) {
  using namespace detail;
  if constexpr (std::is_same_v<T, bf16>)
    return {{low_half(bits.x), high_half(bits.x), low_half(bits.y), high_half(bits.y), low_half(bits.z),
             high_half(bits.z), low_half(bits.w), high_half(bits.w)}};
  else if constexpr (std::is_same_v<T, float>)
    return {{__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w)}};
  else
    return {{as_double(bits.x, bits.y), as_double(bits.z, bits.w)}};
}

/// And back.
template <class T> __device__ inline uint4 pack_bits(const Pack<T>& p) {
  if constexpr (std::is_same_v<T, bf16>)
    return make_uint4(ptx::pack_bf16(p.at[0], p.at[1]), ptx::pack_bf16(p.at[2], p.at[3]),
                      ptx::pack_bf16(p.at[4], p.at[5]), ptx::pack_bf16(p.at[6], p.at[7]));
  else if constexpr (std::is_same_v<T, float>)
    return make_uint4(__float_as_uint(p.at[0]), __float_as_uint(p.at[1]), __float_as_uint(p.at[2]),
                      __float_as_uint(p.at[3]));
  else
    return make_uint4(unsigned(__double2loint(p.at[0])), unsigned(__double2hiint(p.at[0])),
                      unsigned(__double2loint(p.at[1])), unsigned(__double2hiint(p.at[1])));
}

/// Addresses are multiples of 16.
template <class T> __device__ inline Pack<T> load_pack(const T* from) { return unpacked<T>(load_16(from)); }
template <class T> __device__ inline void store_pack(T* to, const Pack<T>& p) { store_16(to, pack_bits(p)); }

/// Whether rows of `columns` elements from `data` on can be read in packs.
template <class T> inline bool packs_fit(const T* data, int64_t columns) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && columns % Pack<std::remove_const_t<T>>::kSize == 0;
}

/// value into a gradient: overwritten or added to.
template <class T, class A> __device__ inline void put(T& place, A value, bool accumulate) {
  place = T(accumulate ? A(place) + value : value);
}

struct Sum {
  template <class A> __device__ static A identity() { return A(0); }
  template <class A> __device__ static A apply(A a, A b) { return a + b; }
};
/// NaN wins, so that it is seen.
struct Max {
  template <class A> __device__ static A identity() { return -A(INFINITY); }
  template <class A> __device__ static A apply(A a, A b) { return a != a || a > b ? a : b; }
};

/// Warp: the reduction over neighbouring groups of `lanes` lanes (a power of two), in every lane.
template <class Op, int lanes = kWarp, class A> __device__ inline A warp_reduce(A value) {
#pragma unroll
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    value = Op::apply(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

/// Block of `threads` threads: the reduction over all of them, in every thread. Holds two barriers.
template <class Op, int threads, class A> __device__ inline A block_reduce(A value) {
  constexpr int kWarps = threads / kWarp;
  static_assert(threads % kWarp == 0 && kWarps <= kWarp);
  __shared__ A of_warp[kWarps];
  value = warp_reduce<Op>(value);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = value;
  __syncthreads();
  A total = of_warp[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) total = Op::apply(total, of_warp[warp]);
  __syncthreads();  // a further call writes again
  return total;
}

/// Block: whether it is the last of `count` blocks to come here with this ticket, which is 0 before and after. The last one may read what
/// the others have written. Holds two barriers; alone, a block needs no ticket.
__device__ inline bool arrives_last(unsigned* ticket, int count) {
  __shared__ bool last;
  __syncthreads();
  if (count == 1) return true;
  if (threadIdx.x == 0) last = ptx::atomic_inc_acq_rel(ticket, unsigned(count - 1)) == unsigned(count - 1);
  __syncthreads();
  return last;
}

/// Leaves a note of an index outside [0, limit), if there is none yet; the caller skips the access.
__device__ inline void note_bad_index(BadIndex* note, BadIndex found) {
  if (!note || atomicCAS(&note->op, int(BadIndex::kNone), int(found.op)) != BadIndex::kNone) return;
  note->position = found.position;
  note->row = found.row;
  note->value = found.value;
  note->limit = found.limit;
}

/// a / b, rounded up.
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Blocks that serve `count` items, `per_block` at a time. Throws Failure where no grid has so many.
inline unsigned blocks_for(int64_t count, int64_t per_block) {
  const int64_t blocks = ceil_div(count, per_block);
  if (blocks > INT32_MAX) throw Failure("a launch of " + std::to_string(blocks) + " blocks, of at most 2^31 - 1");
  return unsigned(blocks);
}
/// Likewise, but no more than `per_multiprocessor` for each of the device's: for kernels that loop over their items.
inline unsigned persistent_blocks(int64_t count, int64_t per_block, int per_multiprocessor) {
  const int64_t most = int64_t(runtime::multiprocessors()) * per_multiprocessor;
  const int64_t wanted = ceil_div(count, per_block);
  return unsigned(wanted < most ? wanted : most);
}

}  // namespace libtrain::kernels

/// Instantiates a kernel's entry for every float type: LIBTRAIN_FOR_FLOATS(INSTANTIATE) with a one-argument macro.
#define LIBTRAIN_FOR_FLOATS(macro) macro(float) macro(bf16) macro(double)
