/// What kernels are written in, for a host compiler that knows nothing of CUDA; kernels/cuda/native/vocabulary.cuh is the twin for
/// nvcc. Device functions stand in libtrain::kernels, where they hide what the C library declares under the same names.
#pragma once
#include <math.h>  // not <cmath>: exp(float) and its like are wanted without std::

#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda_on_cpu/device_functions.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/dtype.h"

#define __global__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline __attribute__((always_inline))
#ifdef LIBTRAIN_INSTRUMENTED
// Helpers become part of the kernel, so that an access is known by the kernel's line and not only by the helper's.
#define __device__ __attribute__((always_inline))
#else
#define __device__
#endif
/// The thread-local segment of a kernel library holds nothing else: it is the static shared memory (see scheduler.cpp).
#ifdef __clang__
#define __shared__ static thread_local
#else  // g++ guards variables of class type against a second initialization, where clang sees that there is none
#define __shared__ static constinit thread_local
#endif
#define LIBTRAIN_DYNAMIC_SHARED(name) \
  unsigned char* const name = ::libtrain::kernels::executor::current->block->dynamic_shared

#define threadIdx (::libtrain::kernels::executor::current->index)
#define blockIdx (::libtrain::kernels::executor::current->block->index)
#define blockDim (::libtrain::kernels::executor::current->block->shape)
#define gridDim (::libtrain::kernels::executor::current->block->grid)

namespace libtrain::kernels {

inline constexpr int warpSize = 32;
constexpr bool kBuiltForHopper = true;  // the executed device is one

__device__ __forceinline__ uint4 load_16(const void* from) { return executor::load<uint4>(from); }
__device__ __forceinline__ uint2 load_8(const void* from) { return executor::load<uint2>(from); }
__device__ __forceinline__ uint32_t load_4(const void* from) { return executor::load<uint32_t>(from); }
__device__ __forceinline__ void store_16(void* to, uint4 value) { executor::store(to, value); }
__device__ __forceinline__ void store_8(void* to, uint2 value) { executor::store(to, value); }
__device__ __forceinline__ void store_4(void* to, uint32_t value) { executor::store(to, value); }
__device__ __forceinline__ void store_16_whole(void* to, uint4 value) {
  executor::require_device_memory(to, "store_16_whole");
  executor::store(to, value);
}

struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
};

/// Enqueues kernel(args...), with copies of the arguments, as a launch does.
template <class... Parameters, class... Arguments>
void launch(Cuda where, const char* name, LaunchShape shape, void (*kernel)(Parameters...), Arguments... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  const auto call = std::make_shared<Call>(Call{kernel, {Parameters(arguments)...}});
  executor::enqueue_launch(where, {name, reinterpret_cast<const void*>(kernel), shape.grid, shape.block,
                                   shape.shared_bytes, call, sizeof(Call), [](const void* data) {
                                     const auto& [kernel, arguments] = *static_cast<const Call*>(data);
                                     std::apply(kernel, arguments);
                                   }});
}

}  // namespace libtrain::kernels
