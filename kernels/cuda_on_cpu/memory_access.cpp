#include "kernels/cuda_on_cpu/memory_access.h"

#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/shared_memory.h"

namespace libtrain::kernels::executor {
namespace {

template <class Bits> Bits read(const void* from, const void* pc) {
  observe(from, sizeof(Bits), Access::read, pc);
  Bits bits;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

template <class Bits> void write(void* to, Bits bits, const void* pc) {
  observe(to, sizeof(Bits), Access::write, pc);
  std::memcpy(to, &bits, sizeof bits);
}

}  // namespace

uint32_t read_4(const void* from) { return read<uint32_t>(from, __builtin_return_address(0)); }
uint64_t read_8(const void* from) { return read<uint64_t>(from, __builtin_return_address(0)); }
Bits16 read_16(const void* from) { return read<Bits16>(from, __builtin_return_address(0)); }
void write_4(void* to, uint32_t bits) { write(to, bits, __builtin_return_address(0)); }
void write_8(void* to, uint64_t bits) { write(to, bits, __builtin_return_address(0)); }
void write_16(void* to, Bits16 bits) { write(to, bits, __builtin_return_address(0)); }

uint64_t atomic_load(const void* place, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(place) % bytes) fault_misaligned(place, bytes);
  observe(place, bytes, Access::atomic, __builtin_return_address(0));
  uint64_t value = 0;
  std::memcpy(&value, place, bytes);
  return value;
}

void atomic_store(void* place, size_t bytes, uint64_t value) { std::memcpy(place, &value, bytes); }

void fault_misaligned(const void* address, size_t bytes) {
  fault(text("misaligned access: ", bytes, " bytes at ", address, ", which is not a multiple of ", bytes));
}

void require_device_memory(const void* address, const char* what) {
  if (shared_memory().contains(address, 1)) fault(text(what, ": the address ", address, " is in shared memory"));
}

}  // namespace libtrain::kernels::executor
