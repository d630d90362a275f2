/// The PTX instructions that kernels use, executed on the CPU; kernels/cuda/native/ptx.cuh is their twin for nvcc and says what each does.
#pragma once
#include "kernels/cuda_on_cpu/collectives.h"
#include "kernels/cuda_on_cpu/mbarrier.h"
#include "kernels/dtype.h"
#include "vocabulary.cuh"

namespace libtrain::kernels::ptx {

__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int bytes = 16,
                                            executor::Site site = executor::here()) {
  executor::cp_async_16(shared, global, bytes, site);
}
__device__ __forceinline__ void cp_async_commit() { executor::cp_async_commit(); }
template <int pending> __device__ __forceinline__ void cp_async_wait() { executor::cp_async_wait(pending); }

__device__ __forceinline__ void named_barrier_sync(int id, int threads, executor::Site site = executor::here()) {
  executor::named_barrier(id, threads, true, site);
}
__device__ __forceinline__ void named_barrier_arrive(int id, int threads, executor::Site site = executor::here()) {
  executor::named_barrier(id, threads, false, site);
}

__device__ __forceinline__ unsigned atomic_inc_acq_rel(unsigned* counter, unsigned last) {
  executor::fence();
  const unsigned before = atomicInc(counter, last);
  executor::fence();
  return before;
}

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row, executor::Site site = executor::here()) {
  executor::ldmatrix_x4(r, row, false, site);
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row,
                                                  executor::Site site = executor::here()) {
  executor::ldmatrix_x4(r, row, true, site);
}
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                         executor::Site site = executor::here()) {
  executor::mma_bf16(d, a, b0, b1, site);
}

/// Subnormal operands and results count as zero, as .ftz does.
__device__ __forceinline__ float exp2_approx(float x) {
  constexpr float kSmallestNormal = 0x1p-126f;
  const float y = ::exp2f(fabsf(x) < kSmallestNormal ? 0.0f : x);
  return y < kSmallestNormal ? 0.0f : y;
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  return uint32_t(bf16(high).bits) << 16 | bf16(low).bits;
}

inline float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
inline float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }

__device__ __forceinline__ uint32_t max_bf16(uint32_t a, uint32_t b) {
  return pack_bf16(fmaxf(low_bf16(a), low_bf16(b)), fmaxf(high_bf16(a), high_bf16(b)));
}

__device__ __forceinline__ uint32_t relu_bf16(uint32_t pair) {
  const auto relu = [](float x) { return x < 0 ? 0 : x; };
  return pack_bf16(relu(low_bf16(pair)), relu(high_bf16(pair)));
}

}  // namespace libtrain::kernels::ptx
