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

void __tsan_init() { libtrain::kernels::executor::note_instrumented(); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

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

}  // extern "C"
