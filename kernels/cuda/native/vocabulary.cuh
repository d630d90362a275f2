/// What kernels are written in, for nvcc: CUDA's own vocabulary and the few names below. kernels/cuda_on_cpu/vocabulary.cuh
/// gives the same names to a host compiler; the include path decides which of the two a kernel is built with.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "kernels/cuda/runtime.h"
#include "kernels/dtype.h"

/// Declares `name` as the dynamic shared memory of the block: unsigned char*, aligned to 1024 bytes.
#define LIBTRAIN_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

namespace libtrain::kernels {

/// Whether this is compiled for Hopper or what came after it: for what fits into registers there alone.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool kBuiltForHopper = false;
#else
constexpr bool kBuiltForHopper = true;
#endif

/// Vector accesses, each one instruction: `from` and `to` are multiples of their size. Where branches meet in the value, the compiler makes of
/// store_16 four stores, which take four times as long: store_16_whole cannot be taken apart, but nothing that reads memory is moved past it,
/// and it stores to device memory alone.
__device__ __forceinline__ uint4 load_16(const void* from) { return *static_cast<const uint4*>(from); }
__device__ __forceinline__ uint2 load_8(const void* from) { return *static_cast<const uint2*>(from); }
__device__ __forceinline__ uint32_t load_4(const void* from) { return *static_cast<const uint32_t*>(from); }
__device__ __forceinline__ void store_16(void* to, uint4 value) { *static_cast<uint4*>(to) = value; }
__device__ __forceinline__ void store_8(void* to, uint2 value) { *static_cast<uint2*>(to) = value; }
__device__ __forceinline__ void store_4(void* to, uint32_t value) { *static_cast<uint32_t*>(to) = value; }
__device__ __forceinline__ void store_16_whole(void* to, uint4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};\n" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

/// Blocks, threads of a block and bytes of dynamic shared memory. A grid without blocks launches nothing.
struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
};

namespace runtime {
/// Lets all launches of `kernel` from now on have so many bytes of shared memory; never takes back what an earlier call allowed, for threads
/// may launch one kernel with different sizes. → a cudaError_t
int allow_shared_bytes(const void* kernel, int bytes);
}  // namespace runtime

/// Enqueues kernel(args...) on the stream of `where`. `name` stands for the kernel in messages and statistics. Throws Failure when this launch
/// fails; what calls of the program's own have left for cudaGetLastError() stays there.
template <class... Parameters, class... Arguments>
void launch(Cuda where, const char* name, LaunchShape shape, void (*kernel)(Parameters...), Arguments... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  runtime::count_launch(name);
  cudaError_t status = cudaSuccess;
  if (shape.shared_bytes > 32 * 1024)  // 48 KiB with what the kernel declares itself need no permission
    status = cudaError_t(runtime::allow_shared_bytes(reinterpret_cast<const void*>(kernel), int(shape.shared_bytes)));
  if (status == cudaSuccess) {
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = where.stream;
    status = cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
  }
  if (status != cudaSuccess)
    runtime::throw_launch_failure(name, {shape.grid.x, shape.grid.y, shape.grid.z},
                                  {shape.block.x, shape.block.y, shape.block.z}, shape.shared_bytes, int(status));
}

}  // namespace libtrain::kernels
