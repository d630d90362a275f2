/// Small kernels, each about one thing that the execution of kernels on the CPU must do right.
#pragma once
#include <cstdint>

#include "kernels/dtype.h"

namespace libtrain::kernels::toy {

/// y[i] = sum of x over blocks of 128, in every element of the block.
void block_sums(Cuda, const float* x, float* y, int64_t blocks);
/// y[i] = x mirrored within each warp, through static shared memory and __syncwarp.
void mirror_warps(Cuda, const float* x, float* y, int64_t blocks);
/// What each lane gets of the shuffles, votes and reductions: out[12][32].
void warp_calls(Cuda, uint32_t* out);
/// out[threads]: in how many threads of the block the thread index is below `limit`, plus 1000 if in any, plus 2000 if in all.
void barrier_votes(Cuda, int* out, int threads, int limit);
/// c[16, 8] = a[16, 16] b[8, 16]^T with ldmatrix, ldmatrix_trans and mma.
void one_mma(Cuda, const bf16* a, const bf16* b, float* c);
/// y = x reversed within tiles of 1024 floats that a ring of two stages of cp.async brings in; the last tile may be short.
void pipelined_reverse(Cuda, const float* x, float* y, int64_t count);
/// counts[v % 8] += 1 for each of the values.
void histogram(Cuda, const int32_t* values, int64_t count, int32_t* counts);
/// (blockIdx, blockDim, gridDim, threadIdx) of each thread as one number: out[grid of (2, 3, 2)][block of (4, 2, 4)].
void indices(Cuda, uint32_t* out);
/// Fills dynamic shared memory, more than a kernel gets without asking, and copies it out.
void large_shared(Cuda, float* y, int64_t floats);
/// y = 2 x with whatever launch shape is asked for.
void doubled(Cuda, const float* x, float* y, int64_t count, unsigned grid, unsigned block, unsigned grid_y = 1);
/// Kernels whose traffic is known, each with 4 blocks of 128 threads: y = x by elements that lie `stride` apart, by packs of 16 bytes,
/// and with each element of x read `times` times.
void copy_strided(Cuda, const float* x, float* y, int stride);
void copy_packs(Cuda, const float* x, float* y);
void copy_rereading(Cuda, const float* x, float* y, int times);
/// One warp: y = x [32, 32] transposed through a tile in shared memory whose rows are `pitch` floats apart (32 or 33).
void transpose_tile(Cuda, const float* x, float* y, int pitch);
/// y = x, then z = y, each element by the thread that wrote it.
void copy_twice(Cuda, const float* x, float* y, float* z);
/// Only every other lane copies, and half of the warps twice as many elements: requests must not mix turns.
void copy_unevenly(Cuda, const float* x, float* y);
/// Does nothing, `rounds` times per thread: a barrier each, or a shuffle each.
void only_barriers(Cuda, unsigned blocks, int rounds);
void only_shuffles(Cuda, unsigned blocks, int rounds, float* out);

}  // namespace libtrain::kernels::toy
