/// How many blocks of rows have column sums of their own, which are then added up in order: fixed by the shape, so that no result depends on threads.
#pragma once
#include <cstdint>

namespace libtrain::kernels {

/// On the CPU.
constexpr int64_t cpu_row_blocks(int64_t rows) { return rows < 1024 ? (rows + 63) / 64 : 16; }
/// On CUDA, of the norms. At most; a device with few multiprocessors uses fewer.
constexpr int64_t cuda_norm_blocks(int64_t rows) { return rows < 8 ? 1 : rows < 4096 ? (rows + 7) / 8 : 512; }

}  // namespace libtrain::kernels
