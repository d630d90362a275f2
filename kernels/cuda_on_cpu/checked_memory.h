/// What the checker remembers of every byte that kernels share: cells beside device memory and shared memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/thread_state.h"
#include "kernels/cuda_on_cpu/vector_clocks.h"

namespace libtrain::kernels::executor::checker {

/// What is remembered of two neighbouring bytes: the last write, and the last read with what others read since the same barrier. In
/// blocks that keep vector clocks, several reads that nothing orders are a set (read_sets.h).
struct alignas(8) Cell {
  uint32_t write_time, read_time;  // 0: never
  uint32_t write_pc, read_pc;  // relative to the kernel's library; read_pc of several readers: the number of their set
  Agent write_thread, read_thread;
  uint8_t written, read;                                          // which of the two bytes
  bool atomic : 1;                                                // the last write
  bool pending : 1;                                               // by a cp.async that has not been waited for
  bool read_by_lanes : 1, read_by_warps : 1, read_by_blocks : 1;  // by more than one
  bool read_by_set : 1;

  bool operator==(const Cell& other) const { return !std::memcmp(this, &other, sizeof *this); }
};
static_assert(sizeof(Cell) == 24);
constexpr size_t kBytesPerCell = 2;

struct Region {
  const char* name;
  uintptr_t begin = 0;
  size_t bytes = 0;
  Cell* cells = nullptr;

  bool contains(uintptr_t address) const { return address - begin < bytes; }
  Cell& cell(uintptr_t address) const { return cells[(address - begin) / kBytesPerCell]; }
};
extern Region device, dynamic_shared, static_shared;

/// For a launch. Cells are reserved at the first.
void prepare_cells();
/// As if nothing had been accessed yet.
void forget_cells();

}  // namespace libtrain::kernels::executor::checker
