// What compilers call in code compiled with -fsanitize=thread (and -fsanitize=bounds): the sanitizers' run-time libraries are not
// linked, the accesses are told to the executor instead. Source of the interface: LLVM, compiler-rt/lib/tsan/rtl/tsan_interface.h.
#include <cstdint>
#include <cstring>

#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/settings.h"

using libtrain::kernels::executor::Access;
using libtrain::kernels::executor::observe;

#define LIBTRAIN_PC __builtin_return_address(0)

extern "C" {

void __tsan_init() { libtrain::kernels::executor::note_instrumented(LIBTRAIN_PC); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
// The rest of this kind is met in host code only, which stands beside kernels in their files.
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

#define LIBTRAIN_ATOMIC_UPDATE(bits, operation)                                                         \
  uint##bits##_t __tsan_atomic##bits##_##operation(volatile uint##bits##_t* p, uint##bits##_t v, int) { \
    return __atomic_##operation(p, v, __ATOMIC_SEQ_CST);                                                \
  }
#define LIBTRAIN_ATOMIC_EXCHANGE(bits, name, result)                                                         \
  result __tsan_atomic##bits##_compare_exchange_##name(volatile uint##bits##_t* p, uint##bits##_t* expected, \
                                                       uint##bits##_t v, int, int) {                         \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);           \
  }
#define LIBTRAIN_ATOMICS(bits)                                                                                   \
  uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* p, int) {                             \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                 \
  }                                                                                                              \
  void __tsan_atomic##bits##_store(volatile uint##bits##_t* p, uint##bits##_t v, int) {                          \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                                    \
  }                                                                                                              \
  uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t* p, uint##bits##_t v, int) {             \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                                          \
  }                                                                                                              \
  uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(volatile uint##bits##_t* p, uint##bits##_t expected, \
                                                            uint##bits##_t v, int, int) {                        \
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                     \
    return expected;                                                                                             \
  }                                                                                                              \
  LIBTRAIN_ATOMIC_EXCHANGE(bits, strong, int)                                                                    \
  LIBTRAIN_ATOMIC_EXCHANGE(bits, weak, int)                                                                      \
  LIBTRAIN_ATOMIC_UPDATE(bits, fetch_add)                                                                        \
  LIBTRAIN_ATOMIC_UPDATE(bits, fetch_sub)                                                                        \
  LIBTRAIN_ATOMIC_UPDATE(bits, fetch_and)                                                                        \
  LIBTRAIN_ATOMIC_UPDATE(bits, fetch_or)                                                                         \
  LIBTRAIN_ATOMIC_UPDATE(bits, fetch_xor)
LIBTRAIN_ATOMICS(8)
LIBTRAIN_ATOMICS(16)
LIBTRAIN_ATOMICS(32)
LIBTRAIN_ATOMICS(64)

#define LIBTRAIN_HOOKS(bytes)                                                                    \
  void __tsan_read##bytes(void* p) { observe(p, bytes, Access::read, LIBTRAIN_PC); }             \
  void __tsan_write##bytes(void* p) { observe(p, bytes, Access::write, LIBTRAIN_PC); }           \
  void __tsan_unaligned_read##bytes(void* p) { observe(p, bytes, Access::read, LIBTRAIN_PC); }   \
  void __tsan_unaligned_write##bytes(void* p) { observe(p, bytes, Access::write, LIBTRAIN_PC); } \
  void __tsan_read_write##bytes(void* p) {                                                       \
    observe(p, bytes, Access::read, LIBTRAIN_PC);                                                \
    observe(p, bytes, Access::write, LIBTRAIN_PC);                                               \
  }                                                                                              \
  void __tsan_unaligned_read_write##bytes(void* p) {                                             \
    observe(p, bytes, Access::read, LIBTRAIN_PC);                                                \
    observe(p, bytes, Access::write, LIBTRAIN_PC);                                               \
  }
LIBTRAIN_HOOKS(1)
LIBTRAIN_HOOKS(2)
LIBTRAIN_HOOKS(4)
LIBTRAIN_HOOKS(8)
LIBTRAIN_HOOKS(16)

void __tsan_read_range(void* p, size_t bytes) { observe(p, bytes, Access::read, LIBTRAIN_PC); }
void __tsan_write_range(void* p, size_t bytes) { observe(p, bytes, Access::write, LIBTRAIN_PC); }
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  observe(from, bytes, Access::read, LIBTRAIN_PC);
  observe(to, bytes, Access::write, LIBTRAIN_PC);
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  observe(from, bytes, Access::read, LIBTRAIN_PC);
  observe(to, bytes, Access::write, LIBTRAIN_PC);
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int byte, size_t bytes) {
  observe(to, bytes, Access::write, LIBTRAIN_PC);
  return std::memset(to, byte, bytes);
}

// ---- -fsanitize=bounds; source: LLVM, compiler-rt/lib/ubsan/ubsan_handlers.h -----------------------------------------
struct LibtrainTypeDescriptor {
  uint16_t kind, information;
  char name[1];  // and more of them
};
struct LibtrainOutOfBounds {
  const char* file;
  uint32_t line, column;
  const LibtrainTypeDescriptor *array, *index;
};

void __ubsan_handle_out_of_bounds(const LibtrainOutOfBounds* data, uintptr_t index) {
  using namespace libtrain::kernels::executor;
  if (current && observer() == Observer::race)
    fault(text("index ", intptr_t(index), " out of bounds of the array type ", data->array->name, "\n    at ",
               text_of(Site{data->file, int(data->line)})));
}

}  // extern "C"
