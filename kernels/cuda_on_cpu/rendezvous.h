/// How the lanes of a warp come together for a call that they make as one.
#pragma once
#include <cstdint>
#include <string>

#include "kernels/cuda_on_cpu/thread_state.h"

namespace libtrain::kernels::executor {

enum class WarpCall : uint8_t {
  sync_warp,
  shuffle,
  vote,
  match,
  reduce,
  ldmatrix,
  mma,
  wgmma_commit,
  wgmma_wait,
  setmaxnreg
};
constexpr unsigned kFullWarp = 0xFFFFFFFFu;

/// Computes the results of all lanes of the mask from their operands.
using Combine = void (*)(const Rendezvous& all);

/// Leaves the operands and waits for the other lanes of the mask; the last one combines and wakes them.
void meet(WarpCall call, unsigned mask, void* own, Combine combine, Site site);

template <class T> T& operands(const Rendezvous& all, unsigned lane) { return *static_cast<T*>(all.operands[lane]); }

template <class F> void for_lanes(unsigned mask, F&& f) {
  for (; mask; mask &= mask - 1) f(unsigned(__builtin_ctz(mask)));
}

/// "0x0000ffff"
std::string hex(unsigned mask);

}  // namespace libtrain::kernels::executor
