#include "kernels/cuda_on_cpu/scheduler.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "kernels/cuda_on_cpu/asynchronous.h"
#include "kernels/cuda_on_cpu/fiber.h"
#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/shared_memory.h"
#include "kernels/failure.h"

namespace libtrain::kernels::executor {

constinit thread_local Thread* current [[gnu::tls_model("initial-exec")]] = nullptr;

namespace {

// One launch runs at a time, under the mutex of the runtime.
const Launch* running = nullptr;
void* host_stack = nullptr;

void enter(Thread& thread) {
  current = &thread;
  switch_fiber(&host_stack, thread.stack_pointer);
  current = nullptr;
}

void leave(Thread& thread) { switch_fiber(&thread.stack_pointer, host_stack); }

/// The whole life of a thread, on its own stack.
void live() {
  running->body(running->arguments.get());
  Thread& self = *current;
  if (!self.copies.empty())
    fault(text("returns with ", self.copies.size(), " cp.async under way that it has not waited for"));
  check_products_at_return(self);
  self.state = State::returned;
  --self.block->live;
  self.warp->live &= ~(1u << self.lane);
  leave(self);
  __builtin_unreachable();
}

void reset_thread(Block& block, unsigned linear) {
  Thread& thread = block.threads[linear];
  const dim3 shape = block.shape;
  thread.index = {linear % shape.x, linear / shape.x % shape.y, linear / shape.x / shape.y};
  thread.linear = linear;
  thread.lane = linear % 32;
  thread.warp = &block.warps[linear / 32];
  thread.block = &block;
  thread.state = State::ready;
  thread.site = {};
  thread.waits_for = nullptr;
  thread.copies.clear();
  thread.copy_groups.clear();
  thread.uncommitted_copies = 0;
  thread.stack_pointer = prepare_fiber(linear, live);
}

void reset_warp(Block& block, unsigned id) {
  Warp& warp = block.warps[id];
  warp.threads = &block.threads[id * 32];
  warp.id = id;
  warp.count = std::min(32u, block.count - id * 32);
  warp.live = warp.count == 32 ? ~0u : (1u << warp.count) - 1;
  warp.pending.clear();
}

void reset_block(Block& block, uint64_t linear) {
  const dim3 grid = block.grid;
  block.index = {unsigned(linear % grid.x), unsigned(linear / grid.x % grid.y), unsigned(linear / grid.x / grid.y)};
  block.live = block.count;
  block.waiting = 0;
  block.votes = block.outcome = 0;
  for (unsigned id = 0; id < block.warps.size(); ++id) reset_warp(block, id);
  for (unsigned thread = 0; thread < block.count; ++thread) reset_thread(block, thread);
  begin_asynchronous(block);
  poison_shared_memory();
  observe_block(block);
}

std::string describe(const Thread& thread) {
  switch (thread.state) {
    case State::at_barrier:
      return "wait at the barrier";
    case State::in_warp_call:
      return "wait in the warp-wide call";
    case State::in_warpgroup_call:
      return "wait in the wgmma";
    case State::at_mbarrier:
    case State::at_named_barrier:
      return describe_wait(thread);
    case State::returned:
      return "have returned";
    default:
      return "can run";
  }
}

bool wait_alike(const Thread& a, const Thread& b) {
  return a.state == b.state && (a.state == State::returned || (a.site == b.site && a.waits_for == b.waits_for));
}

/// Where all threads of a block are, neighbours in one line.
std::string whereabouts(const Block& block) {
  std::string lines;
  for (unsigned first = 0, next; first < block.count; first = next) {
    const Thread& thread = block.threads[first];
    for (next = first + 1; next < block.count; ++next)
      if (!wait_alike(block.threads[next], thread)) break;
    lines += text("\n    threads ", first, " to ", next - 1, " ", describe(thread));
    if (thread.state != State::returned) lines += " at " + text_of(thread.site);
  }
  return lines;
}

/// The positions 0 … count - 1 in the order that was asked for.
void arrange(std::vector<unsigned>& positions, size_t count, Order::Kind kind, Random& random) {
  positions.resize(count);
  std::iota(positions.begin(), positions.end(), 0u);
  if (kind == Order::kReverse) std::reverse(positions.begin(), positions.end());
  if (kind == Order::kRandom)
    for (size_t i = count; i > 1; --i) std::swap(positions[i - 1], positions[random.below(i)]);
}

/// Runs threads of the warp until none can: they wait for other warps. In random order a warp is now and then left earlier.
bool run_warp(Block& block, Warp& warp, std::vector<unsigned>& lanes, Order::Kind kind, Random& random) {
  bool any = false, again = true;
  while (again) {
    again = false;
    if (kind == Order::kRandom) arrange(lanes, 32, kind, random);
    for (unsigned lane : lanes) {
      if (lane >= warp.count || warp.threads[lane].state != State::ready) continue;
      enter(warp.threads[lane]);
      if (!block.fault.empty()) return true;
      any = again = true;
    }
    if (kind == Order::kRandom && random.below(4) == 0) break;
  }
  return any;
}

void run_block(Block& block, Order order, uint64_t linear) {
  static std::vector<unsigned> warps, lanes;
  Random random{order.seed * 0x9E3779B97F4A7C15u + linear};
  arrange(warps, block.warps.size(), order.kind, random);
  arrange(lanes, 32, order.kind, random);
  while (block.live) {
    bool any = false;
    if (order.kind == Order::kRandom) arrange(warps, block.warps.size(), order.kind, random);
    for (unsigned id : warps) {
      any |= run_warp(block, block.warps[id], lanes, order.kind, random);
      if (!block.fault.empty()) return;
    }
    if (deliver_copy(block, any, order.kind, random)) continue;
    if (!any && block.live) {
      block.fault = text("block ", text_of(block.index), ": deadlock", whereabouts(block));
      return;
    }
  }
  if (const std::string left = left_under_way(block); !left.empty())
    block.fault = text("block ", text_of(block.index), ": ", left);
}

void run_blocks(Block& block) {
  static std::vector<unsigned> blocks;
  const Order order = executor::order();
  Random random{order.seed};
  arrange(blocks, block.grid.count(), order.kind, random);
  for (unsigned linear : blocks) {
    reset_block(block, linear);
    run_block(block, order, linear);
    if (!block.fault.empty()) return;
  }
}

std::string text_of(dim3 shape) { return executor::text_of(uint3{shape.x, shape.y, shape.z}); }

}  // namespace

bool operator==(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || !std::strcmp(a.file, b.file));
}

/// The path from the folder of the sources on: the same message wherever the repository lies.
std::string text_of(Site site) {
  const std::string_view file = site.file;
  size_t begin = 0;
  for (const std::string_view root : {"/kernels/", "/tests/"})
    if (const size_t found = file.rfind(root); found != file.npos) begin = std::max(begin, found + 1);
  return text(file.substr(begin), ":", site.line);
}

std::string text_of(uint3 index) { return text("(", index.x, ",", index.y, ",", index.z, ")"); }

uint64_t Random::next() {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void wait_as(State state, Site site) {
  current->state = state;
  current->site = site;
  leave(*current);
}

void fault(const std::string& what) {
  if (!current) throw Failure(what);
  Thread& self = *current;
  self.block->fault = text("block ", text_of(self.block->index), ", thread ", text_of(self.index), ": ", what);
  leave(self);
  __builtin_unreachable();
}

void run_launch(const Launch& launch) {
  static Block block;
  running = &launch;
  block.grid = launch.grid;
  block.shape = launch.block;
  block.count = unsigned(launch.block.count());
  block.fault.clear();
  block.threads.resize(std::max<size_t>(block.threads.size(), block.count));
  block.warps.resize((block.count + 31) / 32);
  prepare_shared_memory(launch.kernel, launch.shared_bytes);
  block.dynamic_shared = shared_memory().dynamic_begin;
  block.dynamic_bytes = launch.shared_bytes;
  observe_launch(launch, block);
  run_blocks(block);
  observe_launch_end();
  if (!block.fault.empty())
    throw Failure(text("[", launch.name, "] grid ", text_of(launch.grid), ", blocks of ", text_of(launch.block), ": ",
                       block.fault));
}

}  // namespace libtrain::kernels::executor
