#include "libtrain/device.h"

#include <dlfcn.h>
#include <omp.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "kernels/cpu/blas.h"

// Exported by OpenBLAS alone; absent elsewhere.
extern "C" [[gnu::weak]] char* openblas_get_config();
extern "C" [[gnu::weak]] char* openblas_get_corename();

namespace libtrain {
namespace {

/// Which BLAS is linked, as it names itself, or else the file that it was loaded from.
std::string blas_name() {
  if (openblas_get_config && openblas_get_corename)
    return std::string(openblas_get_config()).substr(0, 15) + " " + openblas_get_corename();
  Dl_info info;
  return dladdr(reinterpret_cast<void*>(&sgemm_), &info) && info.dli_fname ? info.dli_fname : "unknown";
}

Isa widest_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return Isa::kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

Isa choose_isa() {
  const Isa widest = widest_isa();
  const char* asked = std::getenv("LIBTRAIN_ISA");
  if (!asked) return widest;
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512})
    if (std::string_view(asked) == name(isa)) {
      LIBTRAIN_CHECK(isa <= widest, "[device] LIBTRAIN_ISA={} asked for, but this machine stops at {}", asked,
                     name(widest));
      return isa;
    }
  throw InvalidArgument(format_message("[device] LIBTRAIN_ISA must be baseline, avx2 or avx512, got '{}'", asked));
}

}  // namespace

const char* name(Device device) { return device == Device::kCpu ? "cpu" : "cuda"; }

const char* name(Isa isa) {
  constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};
  return kNames[int(isa)];
}

bool cuda_available() { return false; }

Isa cpu_isa() {
  static const Isa isa = choose_isa();
  return isa;
}

std::string describe(Device device) {
  if (device == Device::kCuda) return name(device);
  return format_message("cpu ({}, {} threads, BLAS {})", name(cpu_isa()), omp_get_max_threads(), blas_name());
}

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  if (to_device == Device::kCuda || from_device == Device::kCuda)
    throw DeviceError("[device] this build has no CUDA; configure with -DLIBTRAIN_CUDA=ON");
  if (bytes) std::memmove(to, from, bytes);
}

}  // namespace libtrain
