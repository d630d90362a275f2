#include "kernels/cuda_on_cpu/shared_memory.h"

#include <link.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <new>

namespace libtrain::kernels::executor {
namespace {

constexpr size_t kArea = 256 << 10, kGuard = 64 << 10, kAlignment = 1024;

SharedMemory memory;

/// The area for dynamic shared memory, with pages around it that may not be touched.
unsigned char* area() {
  static unsigned char* const begin = [] {
    void* mapped = mmap(nullptr, kArea + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    auto* inside = static_cast<unsigned char*>(mapped) + kGuard;
    if (mprotect(inside, kArea, PROT_READ | PROT_WRITE)) throw std::bad_alloc();
    return inside;
  }();
  return begin;
}

struct Search {
  uintptr_t address;
  SharedMemory* found;
};

/// For dl_iterate_phdr: notes the calling thread's thread-local segment of the library that holds the address.
int find_segment(dl_phdr_info* library, size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  bool inside = false;
  size_t bytes = 0;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    const auto& part = library->dlpi_phdr[i];
    if (part.p_type == PT_LOAD) inside |= search.address - (library->dlpi_addr + part.p_vaddr) < part.p_memsz;
    if (part.p_type == PT_TLS) bytes = part.p_memsz;
  }
  if (!inside) return 0;
  search.found->static_begin = static_cast<unsigned char*>(library->dlpi_tls_data);
  search.found->static_bytes = library->dlpi_tls_data ? bytes : 0;
  return 1;
}

bool within(const void* begin, size_t bytes, const unsigned char* area_begin, size_t area_bytes) {
  const size_t offset = size_t(static_cast<const unsigned char*>(begin) - area_begin);
  return offset < area_bytes && bytes <= area_bytes - offset;
}

size_t padded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

bool SharedMemory::contains(const void* begin, size_t bytes) const {
  return within(begin, bytes, dynamic_begin, dynamic_bytes) || within(begin, bytes, static_begin, static_bytes);
}

const SharedMemory& shared_memory() { return memory; }

void prepare_shared_memory(const void* kernel, size_t dynamic_bytes) {
  memory = {};
  memory.dynamic_begin = area() + kArea - padded(dynamic_bytes);
  memory.dynamic_bytes = dynamic_bytes;
  Search search{reinterpret_cast<uintptr_t>(kernel), &memory};
  dl_iterate_phdr(find_segment, &search);
}

void poison_shared_memory() {
  std::memset(memory.dynamic_begin, 0xFF, padded(memory.dynamic_bytes));
  if (memory.static_bytes) std::memset(memory.static_begin, 0xFF, memory.static_bytes);
}

bool near_dynamic_shared(const void* address) { return within(address, 1, area() - kGuard, kArea + 2 * kGuard); }

}  // namespace libtrain::kernels::executor
