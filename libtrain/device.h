/// Where tensors live and kernels run, chosen at run time.
#pragma once
#include <cstddef>
#include <string>
#include <utility>

#include "kernels/view.h"
#include "libtrain/config.h"
#include "libtrain/error.h"

namespace libtrain {

enum class Device : uint8_t { kCpu, kCuda };
const char* name(Device device);

/// True when this build has CUDA kernels and this machine a device to run them.
bool cuda_available();

/// The widest instruction set that both this build and this machine have, chosen once at start. The environment variable
/// LIBTRAIN_ISA (baseline, avx2, avx512) asks for a narrower one, e.g. to compare results between machines.
Isa cpu_isa();
const char* name(Isa isa);

/// One line for logs: "cpu (avx512, 2 threads, BLAS OpenBLAS 0.3.21 Haswell)".
std::string describe(Device device);

namespace cuda {
/// The stream on which this thread enqueues.
Cuda current_stream();
}  // namespace cuda

/// Copies `bytes` between any two devices and returns when the data has arrived.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes);

/// Calls f(Cpu<isa>{}) or f(Cuda{stream}): how an op reaches its kernels. Throws DeviceError when the build has no CUDA.
template <class F> void on(Device device, F&& f) {
  if (device == Device::kCpu) {
    if constexpr (kBuiltForX86) {
      if (cpu_isa() == Isa::kAvx512) return f(Cpu<Isa::kAvx512>{});
      if (cpu_isa() == Isa::kAvx2) return f(Cpu<Isa::kAvx2>{});
    }
    return f(Cpu<Isa::kBaseline>{});
  }
  if constexpr (kBuiltWithCuda)
    return f(cuda::current_stream());
  else
    throw DeviceError("[device] this build has no CUDA; configure with -DLIBTRAIN_CUDA=ON");
}

}  // namespace libtrain
