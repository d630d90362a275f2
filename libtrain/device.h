/// Where tensors live and kernels run, chosen at run time.
#pragma once
#include <cstddef>
#include <string>
#include <utility>

#include "kernels/view.h"
#include "libtrain/cuda.h"

namespace libtrain {

/// kCuda is the first device that the CUDA runtime shows; a process uses one.
enum class Device : uint8_t { kCpu, kCuda };
/// "cpu" or "cuda"
const char* name(Device device);

/// The widest instruction set that both this build and this machine have, chosen once at start. The environment variable
/// LIBTRAIN_ISA (baseline, avx2, avx512) asks for a narrower one, e.g. to compare results between machines; InvalidArgument is thrown
/// when it names another, or one that build or machine lack.
Isa cpu_isa();
/// "baseline", "avx2" or "avx512"
const char* name(Isa isa);

/// One line for logs: "cpu (avx512, 2 threads, BLAS OpenBLAS 0.3.21 Haswell)", "cuda (NVIDIA H200, sm_90, 132 multiprocessors, 139.8 GiB)".
std::string describe(Device device);

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
    detail::cuda_call([&] { f(cuda::current_stream()); });
  else
    detail::throw_no_cuda();
}

}  // namespace libtrain
