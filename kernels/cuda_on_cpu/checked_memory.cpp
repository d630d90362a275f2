#include "kernels/cuda_on_cpu/checked_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "kernels/cuda_on_cpu/device_memory.h"
#include "kernels/cuda_on_cpu/shared_memory.h"

namespace libtrain::kernels::executor::checker {
namespace {

constexpr size_t kMaxShared = size_t(16) << 20;  // dynamic, or static of a whole library

Cell* reserve_cells(size_t bytes) {
  void* memory = mmap(nullptr, bytes / kBytesPerCell * sizeof(Cell), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<Cell*>(memory);
}

void forget(const Region& region, size_t bytes) {
  madvise(region.cells, bytes / kBytesPerCell * sizeof(Cell), MADV_DONTNEED);
}

void reserve_all() {
  device.begin = reinterpret_cast<uintptr_t>(arena());
  device.bytes = kArenaBytes;
  device.cells = reserve_cells(kArenaBytes);
  dynamic_shared.cells = reserve_cells(kMaxShared);
  static_shared.cells = reserve_cells(kMaxShared);
}

void move(Region& region, const unsigned char* begin, size_t bytes) {
  region.begin = reinterpret_cast<uintptr_t>(begin);
  region.bytes = std::min(bytes, kMaxShared);
}

}  // namespace

Region device{"device memory"}, dynamic_shared{"dynamic shared memory"}, static_shared{"static shared memory"};

void prepare_cells() {
  if (!device.cells) reserve_all();
  move(dynamic_shared, shared_memory().dynamic_begin, shared_memory().dynamic_bytes);
  move(static_shared, shared_memory().static_begin, shared_memory().static_bytes);
}

void forget_cells() {
  forget(device, kArenaBytes);
  forget(dynamic_shared, kMaxShared);
  forget(static_shared, kMaxShared);
}

}  // namespace libtrain::kernels::executor::checker
