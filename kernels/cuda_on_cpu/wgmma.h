/// Products of a warpgroup by wgmma. Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions".
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda_on_cpu/thread_state.h"

namespace libtrain::kernels::executor {

/// An array of registers that a fence or a wait is about.
struct Registers {
  const void* begin = nullptr;
  size_t bytes = 0;

  Registers() = default;
  template <class T, size_t n> Registers(T (&array)[n]) : begin(&array), bytes(sizeof array) {}
};
constexpr size_t kMaxRegisterArrays = 6;

struct Wgmma {
  uint64_t a, b;  // descriptors; a: of nothing where it comes from registers
  unsigned columns;
  bool a_in_registers, transpose_a, transpose_b, accumulate;
  Site site;

  bool operator==(const Wgmma& other) const = default;
};

/// A matrix descriptor with the 128-byte swizzle: bits 0-13 address / 16, 16-29 leading and 32-45 stride dimension byte offset / 16,
/// 62-63 the swizzle. Addresses count from the begin of dynamic shared memory.
uint64_t wgmma_descriptor(const void* shared, unsigned leading_bytes, unsigned stride_bytes, Site site);

void wgmma_fence(const Registers* registers, Site site);
void wgmma_commit(Site site);
void wgmma_wait(unsigned pending, const Registers* registers, Site site);
/// `d`: columns / 2 accumulators. `a`: four pairs, or nullptr.
void wgmma(const Wgmma& call, float* d, const uint32_t* a);

}  // namespace libtrain::kernels::executor
