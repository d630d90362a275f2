/// Hopper's asynchronous instructions, executed on the CPU; kernels/cuda/native/hopper.cuh is their twin for nvcc and says what each does.
#pragma once
#include "kernels/cuda_on_cpu/mbarrier.h"
#include "kernels/cuda_on_cpu/tensor_copy.h"
#include "kernels/cuda_on_cpu/wgmma.h"
#include "ptx.cuh"

namespace libtrain::kernels::ptx {

// ---- mbarriers -------------------------------------------------------------------------------------------------------
__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, unsigned arrivals,
                                              executor::Site site = executor::here()) {
  executor::mbarrier_init(barrier, arrivals, site);
}
__device__ __forceinline__ void mbarrier_fence_init() { executor::mbarrier_fence_init(); }
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier, executor::Site site = executor::here()) {
  executor::mbarrier_arrive(barrier, 0, site);
}
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint64_t* barrier, unsigned bytes,
                                                          executor::Site site = executor::here()) {
  executor::mbarrier_arrive(barrier, bytes, site);
}
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, unsigned parity,
                                              executor::Site site = executor::here()) {
  executor::mbarrier_wait(barrier, parity, site);
}

// ---- TMA -------------------------------------------------------------------------------------------------------------
using executor::TensorMap;

inline TensorMap tensor_map(const void* data, int64_t rows, int64_t columns, int64_t row_stride, int box_rows,
                            int box_columns) {
  return executor::make_tensor_map(data, rows, columns, row_stride, box_rows, box_columns);
}
__device__ __forceinline__ void tma_load(void* shared, const TensorMap& map, int column, int row, uint64_t* barrier,
                                         executor::Site site = executor::here()) {
  executor::tma_load(shared, map, column, row, barrier, site);
}
__device__ __forceinline__ void fence_proxy_async() { executor::fence_proxy_async(); }

// ---- Registers -------------------------------------------------------------------------------------------------------
template <int kRegisters> __device__ __forceinline__ void setmaxnreg_inc(executor::Site site = executor::here()) {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
  executor::setmaxnreg(kRegisters, site);
}
template <int kRegisters> __device__ __forceinline__ void setmaxnreg_dec(executor::Site site = executor::here()) {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
  executor::setmaxnreg(kRegisters, site);
}

// ---- wgmma -----------------------------------------------------------------------------------------------------------
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* shared, executor::Site site = executor::here()) {
  return executor::wgmma_descriptor(shared, 16, 1024, site);
}
__device__ __forceinline__ uint64_t wgmma_descriptor_transposed(const void* shared, unsigned panel_bytes,
                                                                executor::Site site = executor::here()) {
  return executor::wgmma_descriptor(shared, panel_bytes, 1024, site);
}

/// `a` to `f`: the arrays of registers that the fence or the wait is about, as many as there are.
using executor::Registers;
__device__ __forceinline__ void wgmma_fence(Registers a = {}, Registers b = {}, Registers c = {}, Registers d = {},
                                            Registers e = {}, Registers f = {},
                                            executor::Site site = executor::here()) {
  const Registers all[executor::kMaxRegisterArrays] = {a, b, c, d, e, f};
  executor::wgmma_fence(all, site);
}
__device__ __forceinline__ void wgmma_commit(executor::Site site = executor::here()) { executor::wgmma_commit(site); }
template <int kPending> __device__ __forceinline__ void wgmma_wait(Registers a = {}, Registers b = {}, Registers c = {},
                                                                   Registers d = {}, Registers e = {}, Registers f = {},
                                                                   executor::Site site = executor::here()) {
  static_assert(kPending >= 0 && kPending < 8);
  const Registers all[executor::kMaxRegisterArrays] = {a, b, c, d, e, f};
  executor::wgmma_wait(kPending, all, site);
}

template <int kN, bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void wgmma(float (&d)[kN / 8][4], uint64_t a, uint64_t b, bool accumulate,
                                      executor::Site site = executor::here()) {
  static_assert(kN >= 8 && kN <= 256 && kN % 8 == 0);
  executor::wgmma({a, b, kN, false, kTransposeA, kTransposeB, accumulate, site}, &d[0][0], nullptr);
}
template <int kN, bool kTransposeB> __device__ __forceinline__ void wgmma(float (&d)[kN / 8][4], const uint32_t (&a)[4],
                                                                          uint64_t b, bool accumulate,
                                                                          executor::Site site = executor::here()) {
  static_assert(kN >= 8 && kN <= 256 && kN % 8 == 0);
  executor::wgmma({0, b, kN, true, false, kTransposeB, accumulate, site}, &d[0][0], a);
}

}  // namespace libtrain::kernels::ptx
