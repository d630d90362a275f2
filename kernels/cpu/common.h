/// Shared by the CPU kernels. Every kernel file is compiled once per instruction set, with LIBTRAIN_ISA naming it: a kernel is a
/// template over Cpu<isa>, instantiated for kIsa at the foot of its file, and all helpers have internal linkage, so that no code
/// compiled for one instruction set can be linked into another.
#pragma once
#include <cstdint>

#include "kernels/dtype.h"

#ifdef __OPTIMIZE__
#define LIBTRAIN_INLINE [[gnu::always_inline]] inline
#else
#define LIBTRAIN_INLINE inline
#endif

namespace libtrain::kernels {
namespace {

constexpr Isa kIsa = Isa::LIBTRAIN_ISA;

/// Work on fewer elements is left to the calling thread: waking a team costs about as much as this many elements do.
constexpr int64_t kTeamElements = 16384;

template <class T> constexpr int64_t kLine = 64 / int64_t(sizeof(T));  // elements of a line of the caches

/// value of type T into a gradient of type T: overwritten or added to.
template <class T, class A> LIBTRAIN_INLINE void put(T& place, A value, bool accumulate) {
  place = T(accumulate ? A(place) + value : value);
}

}  // namespace
}  // namespace libtrain::kernels

/// Instantiates `function` for every float type: LIBTRAIN_FOR_FLOATS(INSTANTIATE) with a one-argument macro.
#define LIBTRAIN_FOR_FLOATS(macro) macro(float) macro(bf16) macro(double)
