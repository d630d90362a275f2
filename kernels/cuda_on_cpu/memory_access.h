/// How kernels reach memory where the compiler's own instrumentation would say too little: vector accesses, which it may split, and
/// atomics, which it would take for plain ones. Instrumented kernels call out for each, so that it is seen whole.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace libtrain::kernels::executor {

struct Bits16 {
  uint64_t low, high;
};
uint32_t read_4(const void* from);
uint64_t read_8(const void* from);
Bits16 read_16(const void* from);
void write_4(void* to, uint32_t bits);
void write_8(void* to, uint64_t bits);
void write_16(void* to, Bits16 bits);

/// Reads what an atomic operation changes; atomic_store ends it. Nothing runs between the two.
uint64_t atomic_load(const void* place, size_t bytes);
void atomic_store(void* place, size_t bytes, uint64_t value);

/// __threadfence().
void fence();

[[noreturn]] void fault_misaligned(const void* address, size_t bytes);
/// For instructions that reach device memory alone.
void require_device_memory(const void* address, const char* what);

template <class T> __attribute__((always_inline)) inline T load(const void* from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
#ifdef LIBTRAIN_INSTRUMENTED
  if constexpr (sizeof(T) == 4) return std::bit_cast<T>(read_4(from));
  if constexpr (sizeof(T) == 8) return std::bit_cast<T>(read_8(from));
  if constexpr (sizeof(T) == 16) return std::bit_cast<T>(read_16(from));
#else
  if (reinterpret_cast<uintptr_t>(from) % sizeof(T)) fault_misaligned(from, sizeof(T));
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
#endif
}

template <class T> __attribute__((always_inline)) inline void store(void* to, T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
#ifdef LIBTRAIN_INSTRUMENTED
  if constexpr (sizeof(T) == 4) write_4(to, std::bit_cast<uint32_t>(value));
  if constexpr (sizeof(T) == 8) write_8(to, std::bit_cast<uint64_t>(value));
  if constexpr (sizeof(T) == 16) write_16(to, std::bit_cast<Bits16>(value));
#else
  if (reinterpret_cast<uintptr_t>(to) % sizeof(T)) fault_misaligned(to, sizeof(T));
  std::memcpy(to, &value, sizeof(T));
#endif
}

}  // namespace libtrain::kernels::executor
