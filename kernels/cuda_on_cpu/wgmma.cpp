#include "kernels/cuda_on_cpu/wgmma.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda_on_cpu/asynchronous.h"
#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/rendezvous.h"
#include "kernels/cuda_on_cpu/shared_memory.h"

namespace libtrain::kernels::executor {
namespace {

constexpr unsigned kRows = 64, kWarpRows = 16, kDepth = 16, kMaxColumns = 256, kGroupThreads = 128;
constexpr size_t kPattern = 1024, kRow = 128;  // bytes of the swizzle
constexpr uint64_t kSwizzle128 = 1;
constexpr uint32_t kPoison = 0xFFFFFFFFu;

template <class... Parts> [[noreturn]] void complain(const char* call, Site site, const Parts&... parts) {
  fault(text(call, " at ", text_of(site), ": ", parts...));
}

Warpgroup& own_warpgroup(const char* call, Site site) {
  const Block& block = *current->block;
  if (block.count % kGroupThreads)
    complain(call, site, "a block of ", block.count, " threads, not of whole warpgroups");
  auto& groups = block.asynchronous->warpgroups;
  groups.resize(block.count / kGroupThreads);
  return groups[current->linear / kGroupThreads];
}
WarpProducts& own_products(const char* call, Site site) {
  return own_warpgroup(call, site).warps[current->warp->id % 4];
}

// ---- Operands in shared memory. Layouts: PTX ISA, "Strides", and CUTLASS, include/cute/arch/mma_sm90_desc.hpp ---------
/// [extent, 16] of M or N by K. Not transposed: rows of K. Transposed: rows of M or N, in panels of 64.
struct Operand {
  const char* name;
  uint64_t descriptor;
  bool transposed;
  unsigned extent;

  size_t field(unsigned bit) const { return size_t(descriptor >> bit & 0x3FFF) << 4; }
  size_t start() const { return field(0); }
  size_t leading() const { return field(16); }
  size_t stride() const { return field(32); }
};
Operand operand_a(const Wgmma& call) { return {"A", call.a, call.transpose_a, kRows}; }
Operand operand_b(const Wgmma& call) { return {"B", call.b, call.transpose_b, call.columns}; }

/// f(offset in shared memory, index of M or N, index of K) for each 16 bytes, which hold 8 neighbours, of the part from `first` on.
template <class F> void for_pieces(const Operand& o, unsigned first, unsigned count, F&& f) {
  if (o.transposed) {
    for (unsigned k = 0; k < kDepth; ++k)
      for (unsigned i = first; i < first + count; i += 8)
        f(swizzled(o.start() + i / 64 * o.leading() + i % 64 * 2 + k / 8 * o.stride() + k % 8 * kRow), i, k);
  } else {
    for (unsigned i = first; i < first + count; ++i)
      for (unsigned k = 0; k < kDepth; k += 8) f(swizzled(o.start() + i / 8 * o.stride() + i % 8 * kRow + k * 2), i, k);
  }
}

void check_operand(const Operand& o, Site site) {
  const auto bad = [&](auto... what) { complain("wgmma", site, "the descriptor of ", o.name, ": ", what...); };
  if (o.descriptor >> 62 != kSwizzle128)
    bad("swizzle mode ", o.descriptor >> 62, ", but only that of 128 bytes is executed");
  if (o.start() % kPattern >= kRow)
    bad("byte ", o.start(), " of shared memory is not in the first row of a swizzle pattern of ", kPattern, " bytes");
  if (o.stride() % kPattern) bad("a stride of ", o.stride(), " bytes, which is not a multiple of ", kPattern);
  if (!o.transposed && o.start() % 32) bad("byte ", o.start(), " of shared memory is not a multiple of 16 columns");
  if (o.transposed && o.start() % kRow / 2 + std::min(64u, o.extent) > 64)
    bad("byte ", o.start(), " of shared memory, from where on ", o.extent, " columns leave the panel");
  if (o.transposed && o.extent > 64 && o.leading() % kPattern)
    bad("panels ", o.leading(), " bytes apart, which is not a multiple of ", kPattern);
  size_t end = 0;
  for_pieces(o, 0, o.extent, [&](size_t offset, unsigned, unsigned) { end = std::max(end, offset + 16); });
  if (end > current->block->dynamic_bytes)
    bad("out of bounds: it reaches to byte ", end, " of ", current->block->dynamic_bytes, " of dynamic shared memory");
}

float as_float(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

/// to[16, count] = the part of the operand from `first` on.
void gather(const Operand& o, unsigned first, unsigned count, float* to) {
  const unsigned char* shared = shared_memory().dynamic_begin;
  for_pieces(o, first, count, [&](size_t offset, unsigned i, unsigned k) {
    uint16_t bits[8];
    std::memcpy(bits, shared + offset, 16);
    float* at = to + k * count + (i - first);
    for (unsigned j = 0; j < 8; ++j) at[j * (o.transposed ? 1 : count)] = as_float(bits[j]);
  });
}

/// Where a lane's register lies in its warp's tile of 16 rows. Source: PTX ISA, "Matrix Fragments for wgmma.mma_async.m64nNk16".
struct Place {
  unsigned row, column;
};
Place place_of(unsigned lane, unsigned element) {
  return {lane / 4 + element % 4 / 2 * 8, element / 4 * 8 + lane % 4 * 2 + element % 2};
}

/// a[16 of K, 16 rows], from the four pairs of each lane.
void gather_registers(const std::array<uint32_t, 4>* lanes, float* a) {
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = lane / 4 + i % 2 * 8, k = lane % 4 * 2 + i / 2 * 8;
      a[k * kWarpRows + row] = as_float(uint16_t(lanes[lane][i]));
      a[(k + 1) * kWarpRows + row] = as_float(uint16_t(lanes[lane][i] >> 16));
    }
}

// ---- Accumulators ----------------------------------------------------------------------------------------------------
template <class F> void for_registers(const Accumulators& acc, F&& f) {
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < acc.columns / 2; ++i) {
      const auto [row, column] = place_of(lane, i);
      f(lane, acc.registers[lane] + i, row * acc.columns + column);
    }
}

bool touch(const void* a, size_t a_bytes, const void* b, size_t b_bytes) {
  const auto *first = static_cast<const char*>(a), *second = static_cast<const char*>(b);
  return first < second + b_bytes && second < first + a_bytes;
}

/// Those of the warp whose registers these are, which become NaN if they were not under way yet.
Accumulators& take_registers(WarpProducts& warp, float* const* d, const Wgmma& call) {
  for (Accumulators& acc : warp.accumulators) {
    if (acc.columns == call.columns && std::equal(d, d + 32, acc.registers.begin())) return acc;
    for (unsigned lane = 0; lane < 32; ++lane)
      if (touch(d[lane], call.columns * 2, acc.registers[lane], acc.columns * 2))
        complain("wgmma", call.site, "some of the accumulators are those of a wgmma of another shape under way");
  }
  Accumulators& acc = warp.accumulators.emplace_back(Accumulators{{}, call.columns, {}, 0});
  std::copy(d, d + 32, acc.registers.begin());
  acc.tile.resize(kWarpRows * call.columns);
  for_registers(acc, [&](unsigned, float* in_register, unsigned in_tile) {
    acc.tile[in_tile] = *in_register;
    std::memcpy(in_register, &kPoison, 4);
  });
  return acc;
}

struct WaitOperands {
  unsigned pending;
  const Registers* registers;
};

bool contain(const Registers* registers, const void* begin, size_t bytes) {
  const auto* first = static_cast<const char*>(begin);
  return std::any_of(registers, registers + kMaxRegisterArrays, [&](const Registers& r) {
    const auto* own = static_cast<const char*>(r.begin);
    return r.bytes && first >= own && first + bytes <= own + r.bytes;
  });
}

/// Back to the registers, which nobody may have touched.
void give_registers(const Accumulators& acc, const Rendezvous& wait) {
  for (unsigned lane = 0; lane < 32; ++lane)
    if (!contain(operands<WaitOperands>(wait, lane).registers, acc.registers[lane], acc.columns * 2))
      complain("wgmma_wait", wait.site, "completes accumulators that are not among its arguments");
  for_registers(acc, [&](unsigned lane, float* in_register, unsigned in_tile) {
    if (std::memcmp(in_register, &kPoison, 4))
      complain("wgmma_wait", wait.site, "lane ", lane, " has written to an accumulator between wgmma and this wait");
    *in_register = acc.tile[in_tile];
  });
}

// ---- Issue and completion --------------------------------------------------------------------------------------------
/// tile[16, columns] += a[16 of K, 16 rows]^T b[16 of K, columns]
void multiply(float* tile, const float* a, const float* b, unsigned columns) {
  for (unsigned row = 0; row < kWarpRows; ++row)
    for (unsigned k = 0; k < kDepth; ++k) {
      const float factor = a[k * kWarpRows + row];
      float* to = tile + row * columns;
      const float* from = b + k * columns;
#pragma omp simd
      for (unsigned i = 0; i < columns; ++i) to[i] += factor * from[i];
    }
}

/// The share of the warp, with its operands as they are now.
void compute(const IssuedWgmma& issued, unsigned warp, Accumulators& acc) {
  static float a[kDepth * kWarpRows], b[kDepth * kMaxColumns];
  const Wgmma& call = issued.call;
  if (call.a_in_registers)
    gather_registers(&issued.a[warp * 32], a);
  else
    gather(operand_a(call), warp * kWarpRows, kWarpRows, a);
  gather(operand_b(call), 0, call.columns, b);
  if (!call.accumulate) std::fill(acc.tile.begin(), acc.tile.end(), 0.0f);
  multiply(acc.tile.data(), a, b, call.columns);
}

void complete_next(Warpgroup& group, unsigned warp, const Rendezvous& wait) {
  WarpProducts& own = group.warps[warp];
  const IssuedWgmma& issued = group.issued[own.done++ - group.first];
  float* const* d = &issued.d[warp * 32];
  const auto acc = std::find_if(own.accumulators.begin(), own.accumulators.end(),
                                [&](const Accumulators& a) { return std::equal(d, d + 32, a.registers.begin()); });
  compute(issued, warp, *acc);
  if (--acc->uses) return;
  give_registers(*acc, wait);
  own.accumulators.erase(acc);
}

/// Forgets what all four warps are done with.
void forget_completed(Warpgroup& group) {
  uint64_t done = group.warps[0].done;
  for (const WarpProducts& warp : group.warps) done = std::min(done, warp.done);
  group.issued.erase(group.issued.begin(), group.issued.begin() + std::ptrdiff_t(done - group.first));
  group.first = done;
}

void combine_commit(const Rendezvous& all) {
  const Warpgroup& group = own_warpgroup("wgmma_commit", all.site);
  WarpProducts& own = own_products("wgmma_commit", all.site);
  own.groups.push_back(group.first + group.issued.size());
}

void combine_wait(const Rendezvous& all) {
  Warpgroup& group = own_warpgroup("wgmma_wait", all.site);
  const unsigned warp = current->warp->id % 4, pending = operands<WaitOperands>(all, 0).pending;
  WarpProducts& own = group.warps[warp];
  if (own.groups.size() <= pending) return;
  const auto last = own.groups.end() - pending;
  const uint64_t before = own.done;
  while (own.done < *(last - 1)) complete_next(group, warp, all);
  observe_product_ends(current->warp->id, own.done - before);
  own.groups.erase(own.groups.begin(), last);
  forget_completed(group);
}

void check_fence(const Wgmma& call, const float* d, const uint32_t* a) {
  const Asynchronous& all = *current->block->asynchronous;
  if (all.fenced.empty() || !all.fenced[current->linear].any)
    complain("wgmma", call.site, "no wgmma_fence since the last wgmma_commit");
  const auto& fenced = all.fenced[current->linear].registers;
  if (!contain(fenced.data(), d, call.columns * 2))
    complain("wgmma", call.site, "the accumulators are not among the arguments of the last wgmma_fence");
  if (a && !contain(fenced.data(), a, 16))
    complain("wgmma", call.site, "the registers of A are not among the arguments of the last wgmma_fence");
  for (const auto& [begin, bytes] : all.fenced[current->linear].written)
    if (touch(begin, bytes, d, call.columns * 2) || (a && touch(begin, bytes, a, 16)))
      complain("wgmma", call.site, "registers have been written between wgmma_fence and this");
}

void observe_operands(const IssuedWgmma& issued, unsigned warp, unsigned first_warp) {
  const Wgmma& call = issued.call;
  const auto read = [&](size_t offset, unsigned, unsigned) {
    observe_operand(first_warp + warp, shared_memory().dynamic_begin + offset, issued.pc);
  };
  observe_product_begin(first_warp + warp);
  if (!observes_operands()) return;
  if (!call.a_in_registers) for_pieces(operand_a(call), warp * kWarpRows, kWarpRows, read);
  for_pieces(operand_b(call), 0, call.columns, read);
}

/// All threads of the warpgroup have come.
void issue(Warpgroup& group) {
  const IssuedWgmma& next = group.next;
  if (!next.call.a_in_registers) check_operand(operand_a(next.call), next.call.site);
  check_operand(operand_b(next.call), next.call.site);
  for (unsigned warp = 0; warp < 4; ++warp) observe_operands(next, warp, current->warp->id / 4 * 4);
  for (unsigned warp = 0; warp < 4; ++warp) ++take_registers(group.warps[warp], &next.d[warp * 32], next.call).uses;
  group.issued.push_back(next);
}

}  // namespace

// ---- What kernels call -----------------------------------------------------------------------------------------------
uint64_t wgmma_descriptor(const void* shared, unsigned leading_bytes, unsigned stride_bytes, Site site) {
  const auto offset = size_t(static_cast<const unsigned char*>(shared) - shared_memory().dynamic_begin);
  if (offset >= shared_memory().dynamic_bytes)
    complain("wgmma_descriptor", site, "the address ", shared, " is not in dynamic shared memory");
  if (offset % 16) complain("wgmma_descriptor", site, "the address ", shared, " is not a multiple of 16");
  const auto encoded = [](size_t bytes) { return uint64_t(bytes >> 4 & 0x3FFF); };
  return encoded(offset) | encoded(leading_bytes) << 16 | encoded(stride_bytes) << 32 | kSwizzle128 << 62;
}

void wgmma_fence(const Registers* registers, Site site) {
  own_warpgroup("wgmma_fence", site);
  auto& all = current->block->asynchronous->fenced;
  all.resize(current->block->count);
  Fenced& own = all[current->linear];
  own.any = true;
  own.written.clear();
  std::copy(registers, registers + kMaxRegisterArrays, own.registers.begin());
}

void wgmma_commit(Site site) {
  meet(WarpCall::wgmma_commit, kFullWarp, nullptr, combine_commit, site);
  auto& all = current->block->asynchronous->fenced;
  if (!all.empty()) all[current->linear] = {};
}

void wgmma_wait(unsigned pending, const Registers* registers, Site site) {
  WaitOperands own{pending, registers};
  meet(WarpCall::wgmma_wait, kFullWarp, &own, combine_wait, site);
}

void wgmma(const Wgmma& call, float* d, const uint32_t* a) {
  Warpgroup& group = own_warpgroup("wgmma", call.site);
  check_fence(call, d, a);
  const unsigned number = current->linear % kGroupThreads;
  if (group.arrived == 0) {
    group.next.call = call;
    group.next.pc = __builtin_return_address(0);
  }
  if (!(group.next.call == call))
    complain("wgmma", call.site, "the threads of a warpgroup are in different calls: others wait at ",
             text_of(group.next.call.site), group.next.call.site == call.site ? " with other operands" : "");
  group.next.d[number] = d;
  if (a) std::copy(a, a + 4, group.next.a[number].begin());
  if (++group.arrived < kGroupThreads) return wait_as(State::in_warpgroup_call, call.site);
  group.arrived = 0;
  Thread* const first = &current->block->threads[current->linear - number];
  for (unsigned i = 0; i < kGroupThreads; ++i) first[i].state = State::ready;
  issue(group);
}

const char* touch_registers(const void* address, size_t bytes, bool writes) {
  Asynchronous& all = *current->block->asynchronous;
  if (all.warpgroups.empty()) return nullptr;
  const WarpProducts& own = all.warpgroups[current->linear / kGroupThreads].warps[current->warp->id % 4];
  for (const Accumulators& acc : own.accumulators)
    if (touch(address, bytes, acc.registers[current->lane], acc.columns * 2))
      return " of an accumulator of a wgmma under way, which no wgmma_wait has covered";
  if (writes && !all.fenced.empty() && all.fenced[current->linear].any)
    all.fenced[current->linear].written.emplace_back(static_cast<const char*>(address), bytes);
  return nullptr;
}

void check_products_at_return(const Thread& thread) {
  const auto& groups = thread.block->asynchronous->warpgroups;
  if (groups.empty()) return;
  const WarpProducts& own = groups[thread.linear / kGroupThreads].warps[thread.warp->id % 4];
  if (!own.accumulators.empty()) fault("returns with a wgmma under way that it has not waited for");
}

}  // namespace libtrain::kernels::executor
