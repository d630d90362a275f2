/// What a block has under way on the units of Hopper that work beside its threads: mbarriers, copies by TMA, products by wgmma; and
/// its named barriers. Kernels call mbarrier.h, tensor_copy.h and wgmma.h.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/tensor_copy.h"
#include "kernels/cuda_on_cpu/thread_state.h"
#include "kernels/cuda_on_cpu/wgmma.h"

namespace libtrain::kernels::executor {

/// The kernel's own 8 bytes hold a mark only, which tells when something else has been written there.
struct Mbarrier {
  uint64_t* address;
  unsigned expected, pending;  // arrivals in a phase, and still to come in this one
  int64_t bytes;    // announced in this phase and not delivered yet; negative: delivered and not announced yet
  unsigned phases;  // completed
  Site site;        // of mbarrier_init
};

struct NamedBarrier {
  unsigned threads = 0;           // that are to come; 0: nobody has come yet
  std::vector<unsigned> arrived;  // threads
  Site site;                      // of the first
};

/// A copy by TMA that has been issued and not been delivered: until then its destination is NaN.
struct TensorCopy {
  unsigned char* to;
  TensorMap map;
  int column, row;
  size_t mbarrier;  // number of
  uint32_t begun;   // as observers count
};

/// Accumulators of a warp while wgmma works on them: in the kernel's own registers there is NaN.
struct Accumulators {
  std::array<float*, 32> registers;  // of each lane: columns / 2
  unsigned columns;
  std::vector<float> tile;  // [16, columns]
  unsigned uses;            // by wgmmas that this warp has not waited for
};

/// The state of one warp's share of wgmmas. Numbers count the wgmmas of its warpgroup from the begin of the block.
struct WarpProducts {
  std::vector<uint64_t> groups;  // committed and not waited for: the number behind the last of each
  uint64_t done = 0;
  std::vector<Accumulators> accumulators;
};

struct IssuedWgmma {
  Wgmma call;
  const void* pc;
  std::array<float*, 128> d;
  std::array<std::array<uint32_t, 4>, 128> a;  // where it comes from registers
};

struct Warpgroup {
  IssuedWgmma next;      // the one that its threads are coming together for
  unsigned arrived = 0;  // of them
  std::vector<IssuedWgmma> issued;
  uint64_t first = 0;  // the number of issued[0]
  std::array<WarpProducts, 4> warps;
};

/// What wgmma_fence has been told since the last wgmma_commit.
struct Fenced {
  bool any = false;
  std::array<Registers, kMaxRegisterArrays> registers;
  std::vector<std::pair<const char*, size_t>> written;  // since then: address and bytes, as far as it is known
};

struct Asynchronous {
  std::vector<Mbarrier> mbarriers;
  std::array<NamedBarrier, kNamedBarriers> named;
  std::vector<TensorCopy> copies;  // in the order of their issue
  std::vector<Warpgroup> warpgroups;
  std::vector<Fenced> fenced;       // by thread
  std::vector<unsigned> registers;  // by warp: what setmaxnreg asked for
};

void begin_asynchronous(Block& block);
/// Delivers a copy by TMA: when no thread can run, in random order also now and then before; which one depends on the order. False if
/// it has not.
bool deliver_copy(Block& block, bool threads_run, Order::Kind kind, Random& random);
/// What the threads of a block that has ended have left under way; "" if nothing.
std::string left_under_way(const Block& block);
/// What a thread waits for, with the state that it is in.
std::string describe_wait(const Thread& thread);
/// Completes phases of an mbarrier that `bytes` have been delivered to.
void deliver_bytes(Block& block, size_t mbarrier, int64_t bytes);
/// The number of the mbarrier within the block. A fault if there is none.
size_t find_mbarrier(const uint64_t* barrier, const char* what, Site site);
/// The current thread accesses its own registers, which the compiler has put into memory. What is wrong with that, or nullptr.
const char* touch_registers(const void* address, size_t bytes, bool writes);
/// A fault if the thread has left a wgmma under way.
void check_products_at_return(const Thread& thread);

}  // namespace libtrain::kernels::executor
