/// The PTX instructions that Hopper alone has (sm_90a): mbarriers, TMA, named barriers, registers of a warpgroup, wgmma.
/// kernels/cuda_on_cpu/hopper.cuh is their twin for a host compiler. A warpgroup is four warps, the first of them a multiple of four; all that
/// say "warpgroup" must be reached by its 128 threads together. Source: NVIDIA, Parallel Thread Execution ISA, sections 9.7.9, 9.7.13, 9.7.15.
#pragma once
#include <cuda.h>

#include "ptx.cuh"

namespace libtrain::kernels::ptx {

// ---- mbarriers: 8 bytes of shared memory; a phase is complete when all arrivals and all announced bytes are there -------------------------

__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/// After it and a barrier of the block, others and TMA may use what this thread has initialized.
__device__ __forceinline__ void mbarrier_fence_init() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
/// Releases what this thread has done to those who wait for the phase.
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
}
/// Likewise, and the phase will bring so many bytes by tma_load.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint64_t* barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
/// Returns once the phase of this parity is complete; phases count from 0, and that before the first has parity 1 and is.
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, unsigned parity) {
  uint32_t complete;
  do
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(complete)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  while (!complete);
}

// ---- TMA: boxes of a matrix in bf16, at most 64 columns and 256 rows ----------------------------------------------------------------

/// Passed to kernels by value, as `const __grid_constant__ TensorMap`.
struct TensorMap {
  CUtensorMap map;
};
/// Of rows of `columns` elements, `row_stride` elements apart: data is a multiple of 16 bytes, row_stride of 8 elements. Of an empty matrix
/// nothing may be loaded. Throws Failure.
TensorMap tensor_map(const void* data, int64_t rows, int64_t columns, int64_t row_stride, int box_rows,
                     int box_columns);

/// Starts copying the box that begins with (row, column) to shared memory, a multiple of 1024: rows of 128 bytes, whose 16-byte chunks are
/// permuted by XOR with the row's number modulo 8. What is outside of the matrix is zero, and counts as bytes that have come.
__device__ __forceinline__ void tma_load(void* shared, const TensorMap& map, int column, int row, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];\n" ::"r"(
          shared_address(shared)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(barrier))
      : "memory");
}
/// What this thread has written to shared memory by ordinary means becomes visible to TMA and wgmma.
__device__ __forceinline__ void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// ---- Registers of a warpgroup's threads: a multiple of 8 ----------------------------------------------------------------------------

template <int kRegisters> __device__ __forceinline__ void setmaxnreg_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}
template <int kRegisters> __device__ __forceinline__ void setmaxnreg_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

// ---- wgmma: warpgroup, d[64, N] += a[64, 16] b[16, N], a and b in bf16, sums in f32 ---------------------------------------------------

namespace detail {
/// An operand in shared memory, swizzled over 128 bytes.
__device__ __forceinline__ uint64_t descriptor(const void* shared, unsigned leading_bytes, unsigned stride_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t(1) << 62;
  return kSwizzle128 | uint64_t(stride_bytes >> 4) << 32 | uint64_t(leading_bytes >> 4) << 16 |
         (shared_address(shared) & 0x3FFFF) >> 4;
}

/// Nothing of a register moves across this.
template <int n> __device__ __forceinline__ void hold(float (&registers)[n][4]) {
#pragma unroll
  for (int i = 0; i < n; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) asm volatile("" : "+f"(registers[i][j])::"memory");
}
template <int n> __device__ __forceinline__ void hold(uint32_t (&registers)[n][4]) {
#pragma unroll
  for (int i = 0; i < n; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) asm volatile("" : "+r"(registers[i][j])::"memory");
}
}  // namespace detail

/// Rows of 64 elements along K, 128 bytes each as tma_load leaves them, one row of M or N below the other; `shared` is the first row's
/// first byte, a multiple of 1024, plus 32 for every 16 columns that are skipped.
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* shared) {
  return detail::descriptor(shared, 16, 1024);
}
/// Transposed: rows of 64 elements along M or N, one row of K below the other, the next 64 elements of each row `panel_bytes` further.
__device__ __forceinline__ uint64_t wgmma_descriptor_transposed(const void* shared, unsigned panel_bytes) {
  return detail::descriptor(shared, panel_bytes, 1024);
}

/// Before the first wgmma, and after its registers have been touched: those are named. Warpgroup, as the next two.
template <class... Registers> __device__ __forceinline__ void wgmma_fence(Registers&... registers) {
  (detail::hold(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
/// Closes a group of the products that were started since the last.
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
/// Waits until at most kPending of the latest groups are under way. Until then their registers, those named here, must not be touched.
template <int kPending, class... Registers> __device__ __forceinline__ void wgmma_wait(Registers&... registers) {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
  (detail::hold(registers), ...);
}

// Of N: the names and the list of d's registers. Operands that follow are counted from kN / 2 on.
#define LIBTRAIN_ROW(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define LIBTRAIN_ROWS(n) LIBTRAIN_ROW(n), LIBTRAIN_ROW(n + 1), LIBTRAIN_ROW(n + 2), LIBTRAIN_ROW(n + 3)
#define LIBTRAIN_LIST_32 LIBTRAIN_ROWS(0)
#define LIBTRAIN_LIST_64 LIBTRAIN_LIST_32, LIBTRAIN_ROWS(4)
#define LIBTRAIN_LIST_128 LIBTRAIN_LIST_64, LIBTRAIN_ROWS(8), LIBTRAIN_ROWS(12)
#define LIBTRAIN_NAMES_32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define LIBTRAIN_NAMES_64 LIBTRAIN_NAMES_32 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LIBTRAIN_NAMES_128                                                                                   \
  LIBTRAIN_NAMES_64                                                                                          \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57" \
  ",%58,%59,%60,%61,%62,%63"
// a, b, accumulate, and the immediate operands of the two kinds.
#define LIBTRAIN_WGMMA_SHARED(n, p0, p1, p2, p3, p4)                                           \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p2                                        \
               ", 0;\n"                                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" LIBTRAIN_NAMES_##n \
               "}, %" #p0 ", %" #p1 ", p, 1, 1, %" #p3 ", %" #p4 ";\n}\n"                      \
               : LIBTRAIN_LIST_##n                                                             \
               : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(kTransposeA)), "n"(int(kTransposeB)))
#define LIBTRAIN_WGMMA_REGISTERS(n, p0, p1, p2, p3, p4, p5, p6)                                \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p5                                        \
               ", 0;\n"                                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" LIBTRAIN_NAMES_##n \
               "}, {%" #p0 ",%" #p1 ",%" #p2 ",%" #p3 "}, %" #p4 ", p, 1, 1, %" #p6 ";\n}\n"   \
               : LIBTRAIN_LIST_##n                                                             \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(accumulate)), "n"(int(kTransposeB)))

/// Starts a product of two operands in shared memory; without `accumulate`, d counts as zero. Element d[n][e] is that of row
/// lane / 4 + 8 (e / 2) of the warp's 16 rows and column 8 n + 2 (lane % 4) + e % 2: mma.m16n8k16's fragments, side by side.
template <int kN, bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void wgmma(float (&d)[kN / 8][4], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kN == 32 || kN == 64 || kN == 128);
  if constexpr (kN == 32) LIBTRAIN_WGMMA_SHARED(32, 16, 17, 18, 19, 20);
  if constexpr (kN == 64) LIBTRAIN_WGMMA_SHARED(64, 32, 33, 34, 35, 36);
  if constexpr (kN == 128) LIBTRAIN_WGMMA_SHARED(128, 64, 65, 66, 67, 68);
}
/// Likewise with a in registers, as mma_bf16 has it.
template <int kN, bool kTransposeB>
__device__ __forceinline__ void wgmma(float (&d)[kN / 8][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(kN == 32 || kN == 64 || kN == 128);
  if constexpr (kN == 32) LIBTRAIN_WGMMA_REGISTERS(32, 16, 17, 18, 19, 20, 21, 22);
  if constexpr (kN == 64) LIBTRAIN_WGMMA_REGISTERS(64, 32, 33, 34, 35, 36, 37, 38);
  if constexpr (kN == 128) LIBTRAIN_WGMMA_REGISTERS(128, 64, 65, 66, 67, 68, 69, 70);
}

#undef LIBTRAIN_ROW
#undef LIBTRAIN_ROWS
#undef LIBTRAIN_LIST_32
#undef LIBTRAIN_LIST_64
#undef LIBTRAIN_LIST_128
#undef LIBTRAIN_NAMES_32
#undef LIBTRAIN_NAMES_64
#undef LIBTRAIN_NAMES_128
#undef LIBTRAIN_WGMMA_SHARED
#undef LIBTRAIN_WGMMA_REGISTERS

}  // namespace libtrain::kernels::ptx
