#include "kernels/cuda_on_cpu/checker.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda_on_cpu/asynchronous.h"
#include "kernels/cuda_on_cpu/checked_memory.h"
#include "kernels/cuda_on_cpu/device_memory.h"
#include "kernels/cuda_on_cpu/fiber.h"
#include "kernels/cuda_on_cpu/happens_before.h"
#include "kernels/cuda_on_cpu/read_sets.h"
#include "kernels/cuda_on_cpu/scheduler.h"
#include "kernels/cuda_on_cpu/shared_memory.h"
#include "kernels/cuda_on_cpu/source_line.h"

namespace libtrain::kernels::executor::checker {
namespace {

constexpr uint32_t kLastTime = 0xF0000000u;  // then everything is forgotten, between two launches

HappensBefore clock_;
ReadSets read_sets;     // of the launch
uintptr_t library = 0;  // of the kernel that runs

struct Range {
  uintptr_t begin, end;
  bool contains(uintptr_t address) const { return address >= begin && address < end; }
};
/// Memory of the host that kernels may look into: their arguments, threadIdx and its like, constants.
std::vector<Range> readable;

template <class T> Range range_of(const T* begin, size_t count = 1) {
  const auto address = reinterpret_cast<uintptr_t>(begin);
  return {address, address + count * sizeof(T)};
}

int note_constants(dl_phdr_info* info, size_t, void*) {
  if (info->dlpi_addr != library) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i)
    if (const auto& part = info->dlpi_phdr[i]; part.p_type == PT_LOAD && !(part.p_flags & PF_W))
      readable.push_back({library + part.p_vaddr, library + part.p_vaddr + part.p_memsz});
  return 1;
}

// ---- Messages --------------------------------------------------------------------------------------------------------
/// One access, as it happens.
struct Event {
  uintptr_t address;
  size_t bytes;
  Access access;
  const void* pc;
  Agent agent;
  const Region* region;
};

const char* name_of(Access access) {
  return access == Access::read ? "read" : access == Access::write ? "write" : "atomic operation";
}

std::string place(const Event& event, uintptr_t address) {
  if (event.region == &device) return describe(reinterpret_cast<const void*>(address)) + " of the device";
  const size_t offset = address - event.region->begin;
  const std::string variable =
      event.region == &static_shared ? static_variable(reinterpret_cast<const void*>(library), offset) : "";
  return variable.empty() ? text("byte ", offset, " of ", event.region->name) : variable + " in shared memory";
}

std::string name_of(Agent agent) {
  if (is_thread(agent)) return "thread " + text_of(current->block->threads[agent].index);
  return agent < kFirstTma ? text("wgmma of warp ", agent - kFirstUnit) : "a copy by TMA";
}

std::string what(const Event& event) {
  return text(name_of(event.access), " of ", event.bytes, " bytes", is_thread(event.agent) ? "" : " by ",
              is_thread(event.agent) ? "" : name_of(event.agent));
}

[[noreturn]] void complain(const Event& event, const std::string& about) {
  fault(text(what(event), about, "\n    at ", source_line(event.pc)));
}

/// `problem`: what is wrong with the access and the one that `pc` of the kernel's library has made.
[[noreturn]] void complain_of_pair(const Event& event, uintptr_t address, const char* kind, const std::string& problem,
                                   uint32_t pc) {
  fault(text(kind, what(event), " at ", place(event, address), problem, "\n    at ", source_line(event.pc),
             "\n    the other at ", source_line(reinterpret_cast<const void*>(library + pc))));
}
[[noreturn]] void complain_of_race(const Event& event, uintptr_t address, const std::string& by, uint32_t pc) {
  complain_of_pair(event, address, "race: ", " conflicts with the " + by, pc);
}

std::string who(uint32_t time, Agent agent) {
  if (clock_.in_this_block(time)) return name_of(agent);
  return is_thread(agent) ? text("thread ", agent, " of another block") : name_of(agent) + " in another block";
}

// ---- Conflicts -------------------------------------------------------------------------------------------------------
/// Shared memory is another for each block; what earlier launches did is ordered by the stream.
bool matters(const Event& event, uint32_t time) {
  return event.region == &device ? clock_.in_this_launch(time) : clock_.in_this_block(time);
}

void check_against_write(const Event& event, const Cell& cell, uint8_t bytes, uintptr_t address) {
  if (!(cell.written & bytes) || !matters(event, cell.write_time)) return;
  if (event.access == Access::atomic && cell.atomic) return;
  if (clock_.ordered(cell.write_time, cell.write_thread, event.agent)) return;
  const auto* word = reinterpret_cast<const void*>(event.address);
  if (cell.atomic && clock_.has_seen_atomics(word, event.agent)) return;
  complain_of_race(event, address,
                   text(cell.atomic ? "atomic operation by " : "write by ", who(cell.write_time, cell.write_thread)),
                   cell.write_pc);
}

/// What a thread has written is not what an asynchronous unit finds, unless a proxy fence stands between the two.
void check_proxy(const Event& event, const Cell& cell, uint8_t bytes, uintptr_t address) {
  if (is_thread(event.agent) || !is_thread(cell.write_thread) || !(cell.written & bytes)) return;
  if (!clock_.in_this_block(cell.write_time)) return;
  if (clock_.ordered_by_proxy(cell.write_time, cell.write_thread, event.agent)) return;
  complain_of_pair(event, address, "",
                   text(", without fence_proxy_async behind the write by ", name_of(cell.write_thread)), cell.write_pc);
}

/// f(read) for each that is remembered.
template <class F> void for_reads(const Cell& cell, F&& f) {
  if (!cell.read_by_set) return f(Reader{cell.read_time, cell.read_pc, cell.read_thread});
  for (const Reader& reader : read_sets[cell.read_pc]) f(reader);
}

/// Whether those that flags alone tell of, from before the block began to keep clocks, are ordered before the agent.
bool flagged_reads_ordered(const Cell& cell, Agent agent) {
  if (cell.read_by_warps) return clock_.all_ordered(cell.read_time, 0, kFirstUnit, agent);
  return !cell.read_by_lanes || clock_.all_ordered(cell.read_time, cell.read_thread / 32u * 32, 32, agent);
}

void check_against_reads(const Event& event, const Cell& cell, uint8_t bytes, uintptr_t address) {
  if (!(cell.read & bytes) || !matters(event, cell.read_time)) return;
  for_reads(cell, [&](const Reader& reader) {
    if (!clock_.ordered(reader.time, reader.agent, event.agent))
      complain_of_race(event, address, "read by " + who(reader.time, reader.agent), reader.pc);
  });
  const auto report = [&](const std::string& readers) {
    complain_of_race(event, address, "read by " + readers, cell.read_pc);
  };
  if (!clock_.in_this_block(cell.read_time)) return;
  if (event.region == &device && cell.read_by_blocks && !clock_.has_acquired(event.agent)) report("another block");
  if (clock_.keeps_clocks()) {
    if (!flagged_reads_ordered(cell, event.agent)) report("several threads");
    return;
  }
  if (!clock_.since_barrier(cell.read_time)) return;
  if (cell.read_by_warps) report("several warps");
  const bool same_warp = cell.read_thread / 32 == event.agent / 32;
  if (cell.read_by_lanes && same_warp && !clock_.warp_synced_since(cell.read_time, cell.read_thread, event.agent))
    report("several lanes");
}

/// With vector clocks: the read joins those that are not ordered before it.
void note_read_by_clock(const Event& event, Cell& cell, uint8_t bytes, uint32_t pc) {
  static std::vector<Reader> readers;
  readers.clear();
  const bool counts = cell.read_time && matters(event, cell.read_time),
             same_block = counts && clock_.in_this_block(cell.read_time);
  if (same_block)
    for_reads(cell, [&](const Reader& reader) {
      if (reader.agent != event.agent && !clock_.ordered(reader.time, reader.agent, event.agent))
        readers.push_back(reader);
    });
  if (!same_block || flagged_reads_ordered(cell, event.agent)) cell.read_by_warps = cell.read_by_lanes = false;
  readers.push_back({clock_.now(), pc, event.agent});
  std::sort(readers.begin(), readers.end());
  cell.read_by_set = readers.size() > 1;
  cell.read_pc = cell.read_by_set ? read_sets.number_of(readers) : pc;
  cell.read_by_blocks = counts && (cell.read_by_blocks || !same_block);
  cell.read = same_block ? uint8_t(cell.read | bytes) : bytes;
  cell.read_time = clock_.now();
  cell.read_thread = event.agent;
}

void note_read(const Event& event, Cell& cell, uint8_t bytes, uint32_t pc) {
  if (clock_.keeps_clocks()) return note_read_by_clock(event, cell, bytes, pc);
  const bool counts = cell.read_time && matters(event, cell.read_time),
             same_block = clock_.in_this_block(cell.read_time);
  const bool same_interval = same_block && clock_.since_barrier(cell.read_time),
             other = cell.read_thread != event.agent;
  const bool same_warp = cell.read_thread / 32 == event.agent / 32;
  cell.read_by_blocks = counts && (cell.read_by_blocks || !same_block);
  cell.read_by_warps = counts && same_interval && (cell.read_by_warps || !same_warp);
  cell.read_by_lanes = counts && same_interval && same_warp && (cell.read_by_lanes || other) &&
                       !clock_.warp_synced_since(cell.read_time, cell.read_thread, event.agent);
  cell.read = counts && same_interval ? uint8_t(cell.read | bytes) : bytes;
  cell.read_time = clock_.now();
  cell.read_thread = event.agent;
  cell.read_pc = pc;
  cell.read_by_set = false;
}

void note_write(const Event& event, Cell& cell, uint8_t bytes, uint32_t pc) {
  cell.write_time = clock_.now();
  cell.write_thread = event.agent;
  cell.write_pc = pc;
  cell.written = bytes;
  cell.atomic = event.access == Access::atomic;
}

void check_cell(const Event& event, Cell& cell, uint8_t bytes, uintptr_t address) {
  if (cell.pending && clock_.in_this_block(cell.write_time))
    complain(event, text(" at ", place(event, address), ", the destination of a cp.async that ",
                         name_of(cell.write_thread), " has not waited for"));
  if (event.access != Access::write && event.region != &device && !clock_.in_this_block(cell.write_time))
    complain(event, text(" at ", place(event, address), ", which this block has not written"));
  check_against_write(event, cell, bytes, address);
  check_proxy(event, cell, bytes, address);
  const auto pc = uint32_t(reinterpret_cast<uintptr_t>(event.pc) - library);
  if (event.access == Access::read) return note_read(event, cell, bytes, pc);
  check_against_reads(event, cell, bytes, address);
  note_write(event, cell, bytes, pc);
}

template <class F> void for_cells(const Region& region, uintptr_t address, size_t bytes, F&& f) {
  for (uintptr_t at = address, end = address + bytes; at < end;) {
    const uintptr_t next = std::min((at / kBytesPerCell + 1) * kBytesPerCell, end);
    const auto mask = uint8_t(((1u << (next - at)) - 1) << at % kBytesPerCell);
    f(region.cell(at), mask, at);
    at = next;
  }
}

/// All bytes of an access. Most often they have the same history: what is right for the first cell is right for its equals.
void check_cells(const Event& event) {
  constexpr uint8_t kAllBytes = (1u << kBytesPerCell) - 1;
  if (event.bytes % kBytesPerCell || event.address % kBytesPerCell) {
    for_cells(*event.region, event.address, event.bytes,
              [&](Cell& cell, uint8_t bytes, uintptr_t at) { check_cell(event, cell, bytes, at); });
    return;
  }
  Cell* cells = &event.region->cell(event.address);
  const Cell before = cells[0];
  check_cell(event, cells[0], kAllBytes, event.address);
  for (size_t i = 1; i < event.bytes / kBytesPerCell; ++i) {
    if (cells[i] == before)
      cells[i] = cells[0];
    else
      check_cell(event, cells[i], kAllBytes, event.address + i * kBytesPerCell);
  }
}

// ---- Addresses -------------------------------------------------------------------------------------------------------
/// The region that the access lies in; nullptr for the thread's own stack and for what may be read of the host.
const Region* region_of(const Event& event) {
  if (device.contains(event.address)) return &device;
  if (dynamic_shared.contains(event.address)) return &dynamic_shared;
  if (static_shared.contains(event.address)) return &static_shared;
  if (is_on_fiber(current->linear, reinterpret_cast<const void*>(event.address))) {
    const char* const wrong =
        touch_registers(reinterpret_cast<const void*>(event.address), event.bytes, event.access != Access::read);
    if (wrong) complain(event, wrong);
    return nullptr;
  }
  if (near_dynamic_shared(reinterpret_cast<const void*>(event.address)))
    complain(event, text(" out of bounds: at byte ", int64_t(event.address - dynamic_shared.begin), " of ",
                         dynamic_shared.bytes, " bytes of dynamic shared memory"));
  if (event.access == Access::read)
    for (const Range& range : readable)
      if (range.contains(event.address)) return nullptr;
  complain(event, text(" at ", reinterpret_cast<const void*>(event.address), ", which is memory of the host"));
}

void check_address(const Event& event) {
  const uintptr_t offset = event.address - event.region->begin;
  const bool inside =
      event.region == &device ? is_live(offset, event.bytes) : event.bytes <= event.region->bytes - offset;
  if (!inside) complain(event, text(" out of bounds: at ", place(event, event.address)));
  if (event.bytes <= 16 && event.address % event.bytes)
    complain(event, text(" misaligned: at ", place(event, event.address), ", address ",
                         reinterpret_cast<const void*>(event.address)));
}

}  // namespace

void begin_launch(const Launch& launch, const Block& block) {
  prepare_cells();
  read_sets.clear();
  if (clock_.now() > kLastTime) {
    forget_cells();
    clock_ = {};
  }
  Dl_info info;
  library = dladdr(launch.kernel, &info) ? reinterpret_cast<uintptr_t>(info.dli_fbase) : 0;
  readable = {range_of(static_cast<const char*>(launch.arguments.get()), launch.argument_bytes), range_of(&current),
              range_of(&block), range_of(block.threads.data(), block.threads.size())};
  dl_iterate_phdr(note_constants, nullptr);
  clock_.begin_launch();
}

void begin_block(const Block& block) { clock_.begin_block(block.count); }

void meet_in_block() { clock_.barrier(); }

void meet_in_warp(const Warp& warp, unsigned mask) {
  const unsigned all = warp.count == 32 ? ~0u : (1u << warp.count) - 1;
  clock_.sync_warp(warp.id, all, mask);
}

void fence() { clock_.fence(current->linear); }

HappensBefore& clock() { return clock_; }

bool access_by(Agent agent, const void* address, size_t bytes, Access access, const void* pc) {
  Event event{reinterpret_cast<uintptr_t>(address), bytes, access, pc, agent, nullptr};
  event.region = region_of(event);
  if (!event.region || bytes == 0) return false;
  check_address(event);
  check_cells(event);
  return true;
}

void access(const void* address, size_t bytes, Access access, const void* pc) {
  const auto thread = Agent(current->linear);
  if (access_by(thread, address, bytes, access, pc) && access == Access::atomic) clock_.atomic(address, thread);
}

void copy(const AsyncCopy& copy, bool pending) {
  const auto to = reinterpret_cast<uintptr_t>(copy.to);
  const Region& region = dynamic_shared.contains(to) ? dynamic_shared : static_shared;
  for_cells(region, to, 16, [&](Cell& cell, uint8_t, uintptr_t) {
    cell.pending = pending;
    cell.write_time = clock_.now();  // when waited for, it is written at that moment
  });
  if (!pending && copy.bytes) access(copy.from, 16, Access::read, copy.pc);
}

}  // namespace libtrain::kernels::executor::checker
