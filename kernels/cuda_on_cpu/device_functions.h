/// CUDA's device functions for kernels that are executed on the CPU: barriers, shuffles, votes, atomics, bit casts, arithmetic.
/// What is not here, kernels may not use.
#pragma once
#include <math.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda_on_cpu/collectives.h"
#include "kernels/cuda_on_cpu/memory_access.h"

namespace libtrain::kernels {

// ---- Barriers and fences ---------------------------------------------------------------------------------------------
inline void __syncthreads(executor::Site site = executor::here()) { executor::barrier(false, site); }
inline int __syncthreads_count(int predicate, executor::Site site = executor::here()) {
  return executor::barrier(predicate != 0, site);
}
inline int __syncthreads_or(int predicate, executor::Site site = executor::here()) {
  return executor::barrier(predicate != 0, site) > 0;
}
inline int __syncthreads_and(int predicate, executor::Site site = executor::here()) {
  return executor::barrier(predicate == 0, site) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, executor::Site site = executor::here()) {
  executor::sync_warp(mask, site);
}
inline void __threadfence() { executor::fence(); }
inline void __threadfence_block() {}
[[noreturn]] inline void __trap() { executor::fault("__trap()"); }

// ---- Shuffles and votes ----------------------------------------------------------------------------------------------
namespace executor {
template <class T> T shuffle_value(Shuffle mode, unsigned mask, T value, int argument, int width, Site site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mode, mask, bits, argument, width, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace executor

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, executor::Site site = executor::here()) {
  return executor::shuffle_value(executor::Shuffle::index, mask, value, lane, width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, executor::Site site = executor::here()) {
  return executor::shuffle_value(executor::Shuffle::up, mask, value, int(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, executor::Site site = executor::here()) {
  return executor::shuffle_value(executor::Shuffle::down, mask, value, int(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, executor::Site site = executor::here()) {
  return executor::shuffle_value(executor::Shuffle::exclusive_or, mask, value, lanes, width, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, executor::Site site = executor::here()) {
  return executor::ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, executor::Site site = executor::here()) {
  return executor::ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, executor::Site site = executor::here()) {
  return executor::ballot(mask, predicate == 0, site) == 0;
}
template <class T> unsigned __match_any_sync(unsigned mask, T value, executor::Site site = executor::here()) {
  static_assert(std::is_integral_v<T>);
  return executor::match_any(mask, uint64_t(value), site);
}

#define LIBTRAIN_REDUCE(name, op)                                                               \
  inline unsigned name(unsigned mask, unsigned value, executor::Site site = executor::here()) { \
    return executor::reduce(executor::Reduction::op, mask, value, false, site);                 \
  }                                                                                             \
  inline int name(unsigned mask, int value, executor::Site site = executor::here()) {           \
    return int(executor::reduce(executor::Reduction::op, mask, unsigned(value), true, site));   \
  }
LIBTRAIN_REDUCE(__reduce_add_sync, add)
LIBTRAIN_REDUCE(__reduce_min_sync, min)
LIBTRAIN_REDUCE(__reduce_max_sync, max)
LIBTRAIN_REDUCE(__reduce_and_sync, bit_and)
LIBTRAIN_REDUCE(__reduce_or_sync, bit_or)
LIBTRAIN_REDUCE(__reduce_xor_sync, bit_xor)
#undef LIBTRAIN_REDUCE

// ---- Atomics, of integers only: sums of floats in no fixed order are not wanted --------------------------------------
namespace executor {
template <class T> constexpr bool is_atomic_v = std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);

template <class T, class F> __attribute__((always_inline)) inline T atomic_update(T* place, F&& next) {
  static_assert(is_atomic_v<T>);
  const T old = T(atomic_load(place, sizeof(T)));
  atomic_store(place, sizeof(T), uint64_t(next(old)));
  return old;
}
}  // namespace executor

#define LIBTRAIN_ATOMIC(name, expression)                                                                    \
  template <class T> __attribute__((always_inline)) inline T name(T* place, std::type_identity_t<T> value) { \
    return executor::atomic_update(place, [value](T old) -> T { return expression; });                       \
  }
LIBTRAIN_ATOMIC(atomicAdd, T(std::make_unsigned_t<T>(old) + std::make_unsigned_t<T>(value)))
LIBTRAIN_ATOMIC(atomicSub, T(std::make_unsigned_t<T>(old) - std::make_unsigned_t<T>(value)))
LIBTRAIN_ATOMIC(atomicMin, value < old ? value : old)
LIBTRAIN_ATOMIC(atomicMax, old < value ? value : old)
LIBTRAIN_ATOMIC(atomicAnd, T(old& value))
LIBTRAIN_ATOMIC(atomicOr, T(old | value))
LIBTRAIN_ATOMIC(atomicXor, T(old ^ value))
LIBTRAIN_ATOMIC(atomicExch, (void(old), value))
LIBTRAIN_ATOMIC(atomicInc, old >= value ? T(0) : T(old + 1))
LIBTRAIN_ATOMIC(atomicDec, old == 0 || old > value ? value : T(old - 1))
#undef LIBTRAIN_ATOMIC
template <class T> __attribute__((always_inline)) inline T atomicCAS(T* place, std::type_identity_t<T> expected,
                                                                     std::type_identity_t<T> value) {
  return executor::atomic_update(place, [=](T old) -> T { return old == expected ? value : old; });
}

// ---- Loads and stores with a hint ------------------------------------------------------------------------------------
#define LIBTRAIN_LOAD(name) \
  template <class T> __attribute__((always_inline)) inline T name(const T* from) { return executor::load<T>(from); }
LIBTRAIN_LOAD(__ldg)
LIBTRAIN_LOAD(__ldca)
LIBTRAIN_LOAD(__ldcg)
LIBTRAIN_LOAD(__ldcs)
LIBTRAIN_LOAD(__ldlu)
#undef LIBTRAIN_LOAD
#define LIBTRAIN_STORE(name)                                                                                 \
  template <class T> __attribute__((always_inline)) inline void name(T* to, std::type_identity_t<T> value) { \
    executor::store(to, value);                                                                              \
  }
LIBTRAIN_STORE(__stwb)
LIBTRAIN_STORE(__stcg)
LIBTRAIN_STORE(__stcs)
LIBTRAIN_STORE(__stwt)
#undef LIBTRAIN_STORE

// ---- Bits ------------------------------------------------------------------------------------------------------------
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }
inline int __double2loint(double x) { return int(std::bit_cast<uint64_t>(x)); }
inline int __double2hiint(double x) { return int(std::bit_cast<uint64_t>(x) >> 32); }
inline double __hiloint2double(int high, int low) {
  return std::bit_cast<double>(uint64_t(uint32_t(high)) << 32 | uint32_t(low));
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __clzll(long long x) { return std::countl_zero((unsigned long long)(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }
inline int __ffsll(long long x) { return x ? std::countr_zero((unsigned long long)(x)) + 1 : 0; }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1) << (31 - bit);
  return reversed;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selectors) {
  const uint64_t bytes = uint64_t(y) << 32 | x;
  unsigned chosen = 0;
  for (int i = 0; i < 4; ++i) chosen |= unsigned(bytes >> (selectors >> 4 * i & 7) * 8 & 0xFF) << 8 * i;
  return chosen;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}

// ---- Arithmetic. The approximations of the device are the exact functions here: tests allow for their error ----------
inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((__extension__(unsigned __int128)(a)) * b >> 64);
}
inline float rsqrtf(float x) { return 1.0f / ::sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float __expf(float x) { return ::expf(x); }
inline float __exp10f(float x) { return ::powf(10.0f, x); }
inline float __logf(float x) { return ::logf(x); }
inline float __log2f(float x) { return ::log2f(x); }
inline float __sinf(float x) { return ::sinf(x); }
inline float __cosf(float x) { return ::cosf(x); }
inline float __powf(float x, float y) { return ::powf(x, y); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return ::sqrtf(x); }
inline float __frsqrt_rn(float x) { return float(1.0 / ::sqrt(double(x))); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return ::fmaf(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline int __float2int_rn(float x) { return int(::nearbyintf(x)); }
inline int __float2int_rd(float x) { return int(::floorf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }

/// Of floats, as CUDA has it: the one that is not NaN.
template <class A, class B> inline std::common_type_t<A, B> min(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>)
    return ::fmin(C(a), C(b));
  else
    return C(b) < C(a) ? C(b) : C(a);
}
template <class A, class B> inline std::common_type_t<A, B> max(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>)
    return ::fmax(C(a), C(b));
  else
    return C(a) < C(b) ? C(b) : C(a);
}

}  // namespace libtrain::kernels
