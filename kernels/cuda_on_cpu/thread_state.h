/// The CUDA thread, warp and block that are being executed, as the scheduler keeps them and as kernels see them through threadIdx
/// and its like.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda_on_cpu/vector_types.h"

namespace libtrain::kernels::executor {

/// Limits of a block: what devices have, and for mbarriers what this executor has.
constexpr unsigned kMaxThreads = 1024, kMaxWarps = kMaxThreads / 32, kMaxMbarriers = 64, kNamedBarriers = 16;

/// A line of a kernel's source: the identity of barriers and warp-wide calls, and where messages point.
struct Site {
  const char* file = "";
  int line = 0;
};
/// As a default argument: the line of the caller.
constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
bool operator==(const Site& a, const Site& b);

/// A cp.async under way: `to` is NaN until the thread waits for it. Of its 16 bytes, `bytes` come from `from`, the rest is zero.
struct AsyncCopy {
  void* to;
  const void* from;
  int bytes;
  const void* pc;
};

/// What all lanes of `mask` must reach together; `arrived` of them have, leaving a pointer to their operands.
struct Rendezvous {
  unsigned mask, arrived;
  uint8_t kind;
  Site site;
  void* operands[32];
};

enum class State : uint8_t {
  ready,
  at_barrier,
  at_mbarrier,
  at_named_barrier,
  in_warp_call,
  in_warpgroup_call,
  returned
};

struct Asynchronous;
struct Block;
struct Warp;

struct Thread {
  uint3 index;
  unsigned linear, lane;
  Warp* warp;
  Block* block;
  void* stack_pointer;
  State state;
  Site site;                          // where it waits
  const void* waits_for;              // an mbarrier or a named barrier
  std::vector<AsyncCopy> copies;      // issued and not waited for, oldest first
  std::vector<unsigned> copy_groups;  // sizes of the committed groups of them
  unsigned uncommitted_copies;        // behind the last group
};

struct Warp {
  Thread* threads;
  unsigned id, count, live;  // live: lanes that have not returned
  std::vector<Rendezvous> pending;
};

struct Block {
  uint3 index;
  dim3 grid, shape;
  unsigned count, live, waiting;  // threads: in all, not returned, at the barrier
  Site barrier;                   // where the waiting ones are
  int votes, outcome;             // of the barrier's predicates: so far, and of the last barrier
  unsigned char* dynamic_shared;
  size_t dynamic_bytes;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::shared_ptr<Asynchronous> asynchronous;
  std::string fault;  // ends the launch
};

/// The CUDA thread that this host thread is executing; nullptr in host code.
extern constinit thread_local Thread* current [[gnu::tls_model("initial-exec")]];

/// Ends the launch with a Failure that names kernel, block and thread. Called from a kernel it abandons its thread without
/// unwinding (kernels own nothing, and instrumented code must not be thrown through); called from the host it throws.
[[noreturn]] void fault(const std::string& what);

}  // namespace libtrain::kernels::executor
