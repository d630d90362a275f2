/// What the registers of a warp hold after ldmatrix and mma, for any device to show.
#pragma once
#include <cstdint>

#include "kernels/view.h"

namespace libtrain::kernels {

constexpr int kFragmentRegisters = 12;          // four of ldmatrix, four of ldmatrix_trans, four of mma (floats)
constexpr int kFragmentInput = 128 + 128 + 64;  // words: four matrices; a's and b's registers of all lanes

/// out[kFragmentRegisters][32 lanes] from in[kFragmentInput], pairs of bf16 each.
void dump_fragments(Cuda, const int32_t* in, int32_t* out);

}  // namespace libtrain::kernels
