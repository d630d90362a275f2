#include "libtrain/device.h"

#include <dlfcn.h>
#include <omp.h>

#include <cstdlib>
#include <string_view>

#include "kernels/cpu/blas.h"
#include "kernels/cuda/runtime.h"

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
      LIBTRAIN_CHECK(
          isa <= widest,
          "[device] LIBTRAIN_ISA={} asked for, but this machine stops at {}; unset it, and the best is chosen", asked,
          name(widest));
      return isa;
    }
  throw InvalidArgument(format_message(
      "[device] LIBTRAIN_ISA must be baseline, avx2 or avx512, got '{}'; unset it, and the best is chosen", asked));
}

}  // namespace

const char* name(Device device) { return device == Device::kCpu ? "cpu" : "cuda"; }

const char* name(Isa isa) {
  constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};
  return kNames[int(isa)];
}

Isa cpu_isa() {
  static const Isa isa = choose_isa();
  return isa;
}

std::string describe(Device device) {
  if (device == Device::kCpu)
    return format_message("cpu ({}, {} threads, BLAS {})", name(cpu_isa()), omp_get_max_threads(), blas_name());
  return detail::cuda_call([] {
    const auto& info = kernels::runtime::device_info();
    return format_message("cuda ({}, sm_{}, {} multiprocessors, {:.1f} GiB)", info.name, info.capability,
                          info.multiprocessors, double(info.memory) * 0x1p-30);
  });
}

}  // namespace libtrain
