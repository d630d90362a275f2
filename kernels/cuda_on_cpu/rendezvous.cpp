#include "kernels/cuda_on_cpu/rendezvous.h"

#include <cstdio>

#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/scheduler.h"

namespace libtrain::kernels::executor {
namespace {

const char* name_of(WarpCall call) {
  static const char* const names[] = {"__syncwarp",
                                      "__shfl_sync",
                                      "vote (__ballot_sync and its like)",
                                      "__match_any_sync",
                                      "__reduce_*_sync",
                                      "ldmatrix",
                                      "mma",
                                      "wgmma_commit",
                                      "wgmma_wait",
                                      "setmaxnreg"};
  return names[size_t(call)];
}

void check_mask(WarpCall call, unsigned mask, Site site) {
  const auto complain = [&](auto... what) { fault(text(name_of(call), " at ", text_of(site), ": ", what...)); };
  if (!(mask >> current->lane & 1)) complain("lane ", current->lane, " is not in its own mask ", hex(mask));
  if (mask & ~current->warp->live)
    complain("mask ", hex(mask), " names lanes that do not exist or have returned; live are ",
             hex(current->warp->live));
}

/// The group of this call, if one of its lanes is here already. A group that this lane is wanted in, and that holds lanes which this
/// call wants, can never be complete: lanes have taken different ways.
Rendezvous* find_group(WarpCall call, unsigned mask, Site site) {
  Rendezvous* found = nullptr;
  for (Rendezvous& group : current->warp->pending) {
    if (group.mask == mask && group.kind == uint8_t(call) && group.site == site)
      found = &group;
    else if ((group.mask >> current->lane & 1) && (mask & group.arrived))
      fault(text(name_of(call), " at ", text_of(site), " with mask ", hex(mask), ": lanes ", hex(group.arrived),
                 " wait in ", name_of(WarpCall(group.kind)), " at ", text_of(group.site), " with mask ",
                 hex(group.mask)));
  }
  return found;
}

}  // namespace

std::string hex(unsigned mask) {
  char digits[16];
  std::snprintf(digits, sizeof digits, "0x%08x", mask);
  return digits;
}

void meet(WarpCall call, unsigned mask, void* own, Combine combine, Site site) {
  check_mask(call, mask, site);
  Warp& warp = *current->warp;
  Rendezvous* group = find_group(call, mask, site);
  if (!group) group = &warp.pending.emplace_back(Rendezvous{mask, 0, uint8_t(call), site, {}});
  group->arrived |= 1u << current->lane;
  group->operands[current->lane] = own;
  if (group->arrived != mask) return wait_as(State::in_warp_call, site);
  const Rendezvous all = *group;
  *group = warp.pending.back();
  warp.pending.pop_back();
  for_lanes(mask, [&](unsigned lane) { warp.threads[lane].state = State::ready; });
  if (combine) combine(all);
  observe_warp_call(warp, mask, call == WarpCall::sync_warp);
}

}  // namespace libtrain::kernels::executor
