#include "kernels/cuda_on_cpu/collectives.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cuda_on_cpu/memory_access.h"
#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/rendezvous.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/shared_memory.h"

namespace libtrain::kernels::executor {
namespace {

// ---- Shuffles, votes, reductions -------------------------------------------------------------------------------------
struct ShuffleOperands {
  Shuffle mode;
  uint64_t value, result;
  int argument, width;
};

/// The lane that a shuffle reads. Source: CUDA C++ Programming Guide, "Warp Shuffle Functions".
unsigned source_lane(const ShuffleOperands& s, unsigned lane) {
  const int own = int(lane), begin = own / s.width * s.width, end = begin + s.width;
  const auto inside = [&](int source) { return unsigned(source < begin || source >= end ? own : source); };
  switch (s.mode) {
    case Shuffle::index:
      return unsigned(begin + (s.argument & (s.width - 1)));
    case Shuffle::up:
      return inside(own - s.argument);
    case Shuffle::down:
      return inside(own + s.argument);
    default:
      return (own ^ s.argument) >= end ? lane : unsigned(own ^ s.argument);
  }
}

void combine_shuffle(const Rendezvous& all) {
  for_lanes(all.mask, [&](unsigned lane) {
    auto& own = operands<ShuffleOperands>(all, lane);
    const unsigned source = source_lane(own, lane);
    if (source > 31 || !(all.mask >> source & 1))
      fault(text("__shfl_sync at ", text_of(all.site), ": lane ", lane, " reads lane ", source,
                 ", which is not in the mask ", hex(all.mask)));
    own.result = operands<ShuffleOperands>(all, source).value;
  });
}

struct WordOperands {
  uint64_t value, result;
  Reduction op;
  bool is_signed;
};

void combine_ballot(const Rendezvous& all) {
  unsigned lanes = 0;
  for_lanes(all.mask, [&](unsigned lane) { lanes |= unsigned(operands<WordOperands>(all, lane).value) << lane; });
  for_lanes(all.mask, [&](unsigned lane) { operands<WordOperands>(all, lane).result = lanes; });
}

void combine_match(const Rendezvous& all) {
  for_lanes(all.mask, [&](unsigned lane) {
    auto& own = operands<WordOperands>(all, lane);
    for_lanes(all.mask, [&](unsigned other) {
      own.result |= uint64_t(operands<WordOperands>(all, other).value == own.value) << other;
    });
  });
}

uint32_t apply(Reduction op, bool is_signed, uint32_t a, uint32_t b) {
  const bool less = is_signed ? int32_t(a) < int32_t(b) : a < b;
  switch (op) {
    case Reduction::add:
      return a + b;
    case Reduction::min:
      return less ? a : b;
    case Reduction::max:
      return less ? b : a;
    case Reduction::bit_and:
      return a & b;
    case Reduction::bit_or:
      return a | b;
    default:
      return a ^ b;
  }
}

void combine_reduce(const Rendezvous& all) {
  const auto& first = operands<WordOperands>(all, unsigned(__builtin_ctz(all.mask)));
  uint32_t total = uint32_t(first.value);
  for_lanes(all.mask & (all.mask - 1), [&](unsigned lane) {
    total = apply(first.op, first.is_signed, total, uint32_t(operands<WordOperands>(all, lane).value));
  });
  for_lanes(all.mask, [&](unsigned lane) { operands<WordOperands>(all, lane).result = total; });
}

// ---- Matrix instructions. Layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix" -----------------------
struct LdmatrixOperands {
  uint32_t* r;
  const void* row;
  bool transposed;
};

void combine_ldmatrix(const Rendezvous& all) {
  uint16_t matrices[4][8][8];
  for (unsigned lane = 0; lane < 32; ++lane)
    std::memcpy(matrices[lane / 8][lane % 8], operands<LdmatrixOperands>(all, lane).row, 16);
  for (unsigned lane = 0; lane < 32; ++lane) {
    const auto& own = operands<LdmatrixOperands>(all, lane);
    const unsigned row = lane / 4, column = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      const auto& m = matrices[i];
      const uint32_t low = own.transposed ? m[column][row] : m[row][column];
      const uint32_t high = own.transposed ? m[column + 1][row] : m[row][column + 1];
      own.r[i] = high << 16 | low;
    }
  }
}

struct MmaOperands {
  float* d;
  const uint32_t* a;
  uint32_t b0, b1;
};

/// Spreads a pair of bf16 over two places.
void unpack(uint32_t pair, float& low, float& high) {
  const uint32_t bits[2] = {pair << 16, pair & 0xFFFF0000u};
  std::memcpy(&low, &bits[0], 4);
  std::memcpy(&high, &bits[1], 4);
}

void combine_mma(const Rendezvous& all) {
  float a[16][16], b[16][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const auto& own = operands<MmaOperands>(all, lane);
    const unsigned g = lane / 4, t = lane % 4 * 2;
    for (unsigned i = 0; i < 4; ++i) {
      float* pair = &a[g + i % 2 * 8][t + i / 2 * 8];
      unpack(own.a[i], pair[0], pair[1]);
    }
    unpack(own.b0, b[t][g], b[t + 1][g]);
    unpack(own.b1, b[t + 8][g], b[t + 9][g]);
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    float* d = operands<MmaOperands>(all, lane).d;
    const unsigned g = lane / 4, t = lane % 4 * 2;
    for (unsigned i = 0; i < 4; ++i)
      for (unsigned k = 0; k < 16; ++k) d[i] += a[g + i / 2 * 8][k] * b[k][t + i % 2];
  }
}

/// For addresses that an instruction takes only in shared memory.
void check_shared(const void* address, const char* what, Site site) {
  if (!shared_memory().contains(address, 16))
    fault(text(what, " at ", text_of(site), ": the address ", address, " is not in shared memory"));
  if (reinterpret_cast<uintptr_t>(address) % 16)
    fault(text(what, " at ", text_of(site), ": the address ", address, " is not a multiple of 16"));
}

void complete(const AsyncCopy& copy) {
  if (copy.bytes)
    std::memcpy(copy.to, copy.from, 16);
  else
    std::memset(copy.to, 0, 16);
  observe_copy(copy, false);
}

uint64_t meet_with_word(WarpCall call, unsigned mask, WordOperands own, Combine combine, Site site) {
  meet(call, mask, &own, combine, site);
  return own.result;
}

}  // namespace

// ---- What kernels call -----------------------------------------------------------------------------------------------
int barrier(bool predicate, Site site) {
  Block& block = *current->block;
  if (block.live != block.count)
    fault(text("barrier at ", text_of(site), ": ", block.count - block.live, " threads of the block have returned"));
  if (block.waiting && !(block.barrier == site))
    fault(text("divergent barriers: this thread is at ", text_of(site), ", others wait at ", text_of(block.barrier)));
  block.barrier = site;
  block.votes += predicate;
  if (++block.waiting < block.count) {
    wait_as(State::at_barrier, site);
    return block.outcome;
  }
  block.outcome = block.votes;
  block.votes = 0;
  block.waiting = 0;
  for (unsigned i = 0; i < block.count; ++i) block.threads[i].state = State::ready;
  observe_barrier();
  return block.outcome;
}

void sync_warp(unsigned mask, Site site) { meet(WarpCall::sync_warp, mask, nullptr, nullptr, site); }

uint64_t shuffle(Shuffle mode, unsigned mask, uint64_t value, int argument, int width, Site site) {
  if (width < 1 || width > 32 || (width & (width - 1)))
    fault(text("__shfl_sync at ", text_of(site), ": a width of ", width, ", which is no power of two up to 32"));
  ShuffleOperands own{mode, value, 0, argument, width};
  meet(WarpCall::shuffle, mask, &own, combine_shuffle, site);
  return own.result;
}

unsigned ballot(unsigned mask, bool predicate, Site site) {
  return unsigned(meet_with_word(WarpCall::vote, mask, {predicate, 0, {}, false}, combine_ballot, site));
}
unsigned match_any(unsigned mask, uint64_t value, Site site) {
  return unsigned(meet_with_word(WarpCall::match, mask, {value, 0, {}, false}, combine_match, site));
}
uint32_t reduce(Reduction op, unsigned mask, uint32_t value, bool is_signed, Site site) {
  return uint32_t(meet_with_word(WarpCall::reduce, mask, {value, 0, op, is_signed}, combine_reduce, site));
}

void ldmatrix_x4(uint32_t (&r)[4], const void* row, bool transposed, Site site) {
  check_shared(row, "ldmatrix", site);
  observe(row, 16, Access::read, __builtin_return_address(0));
  uint32_t result[4];
  LdmatrixOperands own{result, row, transposed};
  meet(WarpCall::ldmatrix, kFullWarp, &own, combine_ldmatrix, site);
  std::copy(result, result + 4, r);
}

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Site site) {
  MmaOperands own{d, a, b0, b1};
  meet(WarpCall::mma, kFullWarp, &own, combine_mma, site);
}

void cp_async_16(void* shared, const void* global, int bytes, Site site) {
  const void* pc = __builtin_return_address(0);
  check_shared(shared, "cp.async", site);
  if (bytes != 0 && bytes != 16) fault(text("cp.async at ", text_of(site), ": ", bytes, " bytes, neither 0 nor 16"));
  if (reinterpret_cast<uintptr_t>(global) % 16) fault_misaligned(global, 16);
  if (bytes) observe(global, 16, Access::read, pc);
  observe(shared, 16, Access::write, pc);
  std::memset(shared, 0xFF, 16);
  current->copies.push_back({shared, global, bytes, pc});
  ++current->uncommitted_copies;
  observe_copy(current->copies.back(), true);
}

void cp_async_commit() {
  current->copy_groups.push_back(current->uncommitted_copies);
  current->uncommitted_copies = 0;
}

void cp_async_wait(unsigned pending) {
  auto& groups = current->copy_groups;
  auto& copies = current->copies;
  if (groups.size() <= pending) return;
  const auto last = groups.end() - pending;
  size_t done = 0;
  for (auto group = groups.begin(); group != last; ++group) done += *group;
  groups.erase(groups.begin(), last);
  for (size_t i = 0; i < done; ++i) complete(copies[i]);
  copies.erase(copies.begin(), copies.begin() + std::ptrdiff_t(done));
}

}  // namespace libtrain::kernels::executor
