/// Copies of boxes of a matrix to shared memory by TMA. Source: PTX ISA, "cp.async.bulk.tensor", and "Swizzling modes".
#pragma once
#include <cstdint>

#include "kernels/cuda_on_cpu/thread_state.h"

namespace libtrain::kernels::executor {

constexpr int kBoxColumns = 64;  // of bf16: 128 bytes, the width of the swizzle

/// A bf16 matrix in device memory and the boxes that are copied of it.
struct TensorMap {
  const unsigned char* data;
  int64_t rows, columns, row_bytes;
  int box_rows;
};

/// Throws Failure for what no device takes.
TensorMap make_tensor_map(const void* data, int64_t rows, int64_t columns, int64_t row_stride, int box_rows,
                          int box_columns);

void tma_load(void* shared, const TensorMap& map, int column, int row, uint64_t* barrier, Site site);

/// The 128-byte swizzle: within 1,024 bytes, rows of 128 bytes have their 16-byte pieces permuted by the number of the row.
constexpr size_t swizzled(size_t address) { return address ^ ((address >> 7 & 7) << 4); }

}  // namespace libtrain::kernels::executor
