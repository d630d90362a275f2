/// Kernels of Hopper's asynchronous instructions, each about something that their execution on the CPU must do right.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/view.h"

namespace libtrain::kernels::hopper {

/// c [rows, columns] = a [rows, k] b, where b is [columns, k], or, `transposed`, [k, columns].
struct ProductCase {
  const char* name;
  int rows, columns;
  bool transposed;
  void (*run)(Cuda where, const bf16* a, const bf16* b, float* c, int k);
};
const std::vector<ProductCase>& products();

/// c [64, 64] = a^T b with a [16, 64] (by M) and b [16, 64] (by N) that the threads themselves write to shared memory.
void product_of_written(Cuda, const bf16* a, const bf16* b, float* c);
/// out [box rows, 64]: the box of x [rows, columns] from (row, column) on, as it arrives, read back through the swizzle.
void load_box(Cuda, const bf16* x, int64_t rows, int64_t columns, int64_t row_stride, int row, int column, bf16* out);
/// y = x, passed from one half of the block to the other through one buffer and two named barriers, `rounds` times 128 floats.
void pass_by_named_barriers(Cuda, const float* x, float* y, int rounds);
/// out[0]: in how many of 2 * rounds waits a thread saw the mbarrier's phase complete exactly when all 64 had arrived.
void count_phases(Cuda, int* out, int rounds);

}  // namespace libtrain::kernels::hopper
