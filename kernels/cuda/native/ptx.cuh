/// The PTX instructions that kernels use, one function each; kernels/cuda_on_cpu/ptx.cuh is their twin for a host compiler.
/// All that say "warp" must be reached by all 32 lanes together. Source: NVIDIA, Parallel Thread Execution ISA, sections 9.7.
#pragma once
#include "vocabulary.cuh"

namespace libtrain::kernels::ptx {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return uint32_t(__cvta_generic_to_shared(pointer));
}

/// Starts copying 16 bytes to shared memory; of the source only the first `bytes` (0 or 16) are read, the rest is zero.
/// Both addresses are multiples of 16. The data is there after cp_async_wait and, for other threads, a barrier.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}
/// Closes a group of the copies that this thread has started since the last.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
/// Waits until at most `pending` of this thread's latest groups are under way.
template <int pending> __device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(pending) : "memory");
}

/// Barriers of some warps of a block, `threads` in all, by numbers 1 … 15; 0 is that of __syncthreads. Who only arrives does not wait.
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("barrier.sync.aligned %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("barrier.arrive.aligned %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

/// Counts up to `last` and then from 0 again; what the counter was. Who finds there what another thread has left sees what that had
/// written, and what threads had written with which it had passed a barrier. The same by __threadfence() before and behind an atomic
/// waits twice, for an order of all writes of all threads.
__device__ __forceinline__ unsigned atomic_inc_acq_rel(unsigned* counter, unsigned last) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;\n"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(counter)), "r"(last)
               : "memory");
  return before;
}

/// Warp: four 8 x 8 matrices of 16-bit elements from shared memory. Lane l gives the address of row l % 8 of matrix l / 8 and gets
/// in r[i] elements (l / 4, 2 (l % 4)) and (l / 4, 2 (l % 4) + 1) of matrix i; with _trans, of its transpose.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Warp: d[16, 8] += a[16, 16] b[16, 8], a and b in bf16, sums in f32. With g = lane / 4 and t = 2 (lane % 4), a lane holds
///   a: (g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8), each with its right neighbour;  b: (t, g) and (t + 8, g), each with the one below
///   d: (g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1)
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// 2^x with a relative error of 2^-22; subnormals are zero, -inf gives 0.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Two floats rounded to bf16 (nearest even), `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/// The larger of two bf16, in either half; the other one, where one is NaN.
__device__ __forceinline__ uint32_t max_bf16(uint32_t a, uint32_t b) {
  uint32_t pair;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
  return pair;
}

/// Two bf16, each zero where it is negative; NaN stays NaN.
__device__ __forceinline__ uint32_t relu_bf16(uint32_t pair) {
  asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(pair) : "r"(0));
  return pair;
}

}  // namespace libtrain::kernels::ptx
