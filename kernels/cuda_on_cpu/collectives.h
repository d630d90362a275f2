/// What threads of a block do together: barriers, shuffles, votes, matrix instructions, and the waits of cp.async. All are
/// functions of the thread that calls them (`current`) and return when its partners have arrived.
#pragma once
#include <cstdint>

#include "kernels/cuda_on_cpu/thread_state.h"

namespace libtrain::kernels::executor {

/// __syncthreads and its variants: for how many threads of the block the predicate is true.
int barrier(bool predicate, Site site);

void sync_warp(unsigned mask, Site site);

enum class Shuffle : uint8_t { index, up, down, exclusive_or };
/// The value of the lane that `argument` tells, within segments of `width` lanes; one's own where that lies outside.
uint64_t shuffle(Shuffle mode, unsigned mask, uint64_t value, int argument, int width, Site site);

/// The lanes of the mask whose predicate is true.
unsigned ballot(unsigned mask, bool predicate, Site site);
/// The lanes of the mask whose value is this lane's.
unsigned match_any(unsigned mask, uint64_t value, Site site);

enum class Reduction : uint8_t { add, min, max, bit_and, bit_or, bit_xor };
/// Over the lanes of the mask; min and max compare as signed or unsigned.
uint32_t reduce(Reduction op, unsigned mask, uint32_t value, bool is_signed, Site site);

void ldmatrix_x4(uint32_t (&r)[4], const void* row, bool transposed, Site site);
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Site site);

void cp_async_16(void* shared, const void* global, int bytes, Site site);
void cp_async_commit();
void cp_async_wait(unsigned pending);

}  // namespace libtrain::kernels::executor
