#include "kernels/cuda_on_cpu/traffic_counter.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <compare>
#include <deque>
#include <map>
#include <new>
#include <unordered_map>

#include "kernels/cuda_on_cpu/device_memory.h"
#include "kernels/cuda_on_cpu/shared_memory.h"
#include "kernels/cuda_on_cpu/source_line.h"
#include "kernels/cuda_on_cpu/stream.h"
#include "kernels/cuda_on_cpu/traffic.h"

namespace libtrain::kernels::executor {
namespace {

/// One access of (up to) all lanes of a warp.
struct Request {
  unsigned lanes = 0;
  std::array<uintptr_t, 32> addresses;
};

/// The requests of one warp at one instruction that may still get accesses of further lanes.
struct OpenRequests {
  std::deque<Request> requests;
  size_t closed = 0;               // requests before these
  std::array<size_t, 32> turns{};  // accesses of each lane so far
};

/// Accesses of one instruction, to one memory and in one direction: a cp.async has two of these.
struct Key {
  const void* pc;
  bool shared, writes;
  auto operator<=>(const Key&) const = default;
};
struct Hash {
  size_t operator()(const Key& key) const { return reinterpret_cast<size_t>(key.pc) * 4 + key.shared * 2 + key.writes; }
};

/// The bytes of an access are the same each time.
struct Instruction {
  LineTraffic counted;
  size_t bytes = 0;
  std::vector<OpenRequests> warps;
};

struct Totals {
  KernelTraffic kernel;
  std::map<Key, LineTraffic> lines;
};

std::map<std::string, Totals> totals;
std::unordered_map<Key, Instruction, Hash> instructions;  // of the launch that runs
std::vector<std::vector<Key>> open_in_warp;               // instructions with open requests, by warp
Totals* running = nullptr;

constexpr size_t kSectors = kArenaBytes / kSectorBytes;
uint32_t launch_number = 0;
uint32_t *read_in, *written_in;  // by sector: the last launch that did

uint32_t* reserve_stamps() {
  void* memory = mmap(nullptr, kSectors * sizeof(uint32_t), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<uint32_t*>(memory);
}

// ---- What a request costs --------------------------------------------------------------------------------------------
/// The numbers of distinct values among f(address), for the addresses of the request's lanes from `first` to `last`.
template <class F> std::vector<uintptr_t>& distinct(const Request& request, unsigned first, unsigned last, F&& add) {
  static std::vector<uintptr_t> values;
  values.clear();
  for (unsigned lane = first; lane < last; ++lane)
    if (request.lanes >> lane & 1) add(values, request.addresses[lane]);
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

/// Bytes that the lanes ask for, those of several lanes once.
int64_t union_of_bytes(const Request& request, size_t bytes) {
  const auto& starts = distinct(request, 0, 32, [](auto& values, uintptr_t address) { values.push_back(address); });
  int64_t total = 0;
  for (size_t i = 0; i < starts.size(); ++i)
    total += int64_t(i + 1 < starts.size() ? std::min<uintptr_t>(bytes, starts[i + 1] - starts[i]) : bytes);
  return total;
}

void touch(uintptr_t sector, bool writes) {
  KernelTraffic& kernel = running->kernel;
  uint32_t& stamp = (writes ? written_in : read_in)[sector];
  const bool first = stamp != launch_number;
  stamp = launch_number;
  if (writes)
    kernel.compulsory_write += first ? kSectorBytes : 0;
  else
    kernel.compulsory_read += first && written_in[sector] != launch_number ? kSectorBytes : 0;
}

void count_in_device(const Request& request, Instruction& at) {
  LineTraffic& line = at.counted;
  line.least_sectors += (union_of_bytes(request, at.bytes) + kSectorBytes - 1) / kSectorBytes;
  const auto base = reinterpret_cast<uintptr_t>(arena());
  const auto& sectors = distinct(request, 0, 32, [&](auto& values, uintptr_t address) {
    for (uintptr_t s = (address - base) / kSectorBytes; s <= (address - base + at.bytes - 1) / kSectorBytes; ++s)
      values.push_back(s);
  });
  line.sectors += int64_t(sectors.size());
  for (const uintptr_t sector : sectors) touch(sector, line.writes);
}

/// The most words that one bank has to give to these lanes.
int64_t worst_bank(const Request& request, unsigned first, unsigned last, size_t bytes) {
  const auto& words = distinct(request, first, last, [&](auto& values, uintptr_t address) {
    for (uintptr_t word = address / 4; word <= (address + bytes - 1) / 4; ++word) values.push_back(word);
  });
  std::array<int64_t, 32> banks{};
  int64_t worst = 0;
  for (const uintptr_t word : words) worst = std::max(worst, ++banks[word % 32]);
  return worst;
}

/// Lanes are served together as long as they ask for no more than 128 bytes: 32 of 4 bytes, 16 of 8, 8 of 16.
void count_in_shared(const Request& request, Instruction& at) {
  const unsigned together = at.bytes >= 16 ? 8 : at.bytes >= 8 ? 16 : 32;
  for (unsigned first = 0; first < 32; first += together) {
    const int64_t cycles = worst_bank(request, first, first + together, at.bytes);
    at.counted.cycles += cycles;
    at.counted.least_cycles += cycles > 0;
  }
}

void close(const Request& request, Instruction& at) {
  ++at.counted.requests;
  at.counted.bytes += int64_t(at.bytes) * __builtin_popcount(request.lanes);
  if (at.counted.shared)
    count_in_shared(request, at);
  else
    count_in_device(request, at);
}

// ---- Which accesses are one request ----------------------------------------------------------------------------------
void close_all(unsigned warp) {
  for (const Key& key : open_in_warp[warp]) {
    Instruction& at = instructions[key];
    for (const Request& request : at.warps[warp].requests) close(request, at);
    at.warps[warp] = {};
  }
  open_in_warp[warp].clear();
}

void add_access(Instruction& at, const Key& key, uintptr_t address) {
  const unsigned warp = current->warp->id, lane = current->lane;
  if (at.warps.size() <= warp) at.warps.resize(warp + 1);
  OpenRequests& open = at.warps[warp];
  if (open.closed == 0 && open.requests.empty()) open_in_warp[warp].push_back(key);
  const size_t turn = open.turns[lane]++ - open.closed;
  if (turn == open.requests.size()) open.requests.emplace_back();
  Request& request = open.requests[turn];
  request.lanes |= 1u << lane;
  request.addresses[lane] = address;
  if (turn != 0 || request.lanes != 0xFFFFFFFFu) return;
  close(request, at);
  open.requests.pop_front();
  ++open.closed;
}

void add(KernelTraffic& kernel, const LineTraffic& line) {
  if (line.shared) {
    kernel.bank_cycles += line.cycles;
    kernel.least_bank_cycles += line.least_cycles;
  } else {
    (line.writes ? kernel.requested_write : kernel.requested_read) += line.sectors * kSectorBytes;
  }
}

void add(LineTraffic& sum, const LineTraffic& line) {
  sum.shared = line.shared;
  sum.writes = line.writes;
  sum.requests += line.requests;
  sum.bytes += line.bytes;
  sum.sectors += line.sectors;
  sum.least_sectors += line.least_sectors;
  sum.cycles += line.cycles;
  sum.least_cycles += line.least_cycles;
}

Totals& totals_of(const char* name) {
  Totals& found = totals[name];
  found.kernel.name = name;
  return found;
}

/// Instructions of one line, in one memory and direction, as one.
std::vector<LineTraffic> by_line(const Totals& of) {
  std::vector<const void*> pcs;
  for (const auto& [key, line] : of.lines) pcs.push_back(key.pc);
  look_up_lines(pcs);
  std::map<std::tuple<std::string, bool, bool>, LineTraffic> lines;
  for (const auto& [key, line] : of.lines) {
    LineTraffic& sum = lines[{source_line(key.pc), key.shared, key.writes}];
    sum.line = source_line(key.pc);
    add(sum, line);
  }
  std::vector<LineTraffic> all;
  for (const auto& [place, line] : lines) all.push_back(line);
  return all;
}

}  // namespace

namespace counter {

void begin_launch(const Launch& launch) {
  if (!read_in) {
    read_in = reserve_stamps();
    written_in = reserve_stamps();
  }
  ++launch_number;
  running = &totals_of(launch.name);
  ++running->kernel.launches;
  open_in_warp.resize(32);
}

void begin_block(const Block&) {
  for (unsigned warp = 0; warp < 32; ++warp) close_all(warp);
  ++running->kernel.blocks;
}

void meet_in_block() {
  for (unsigned warp = 0; warp < 32; ++warp) close_all(warp);
  ++running->kernel.barriers;
}

void meet_in_warp(const Warp& warp) { close_all(warp.id); }

void access(const void* address, size_t bytes, Access access, const void* pc) {
  const bool shared = shared_memory().contains(address, bytes);
  if (bytes == 0 || (!shared && arena_offset(address) >= kArenaBytes)) return;
  const Key key{pc, shared, access != Access::read};
  Instruction& at = instructions[key];
  at.bytes = bytes;
  at.counted.shared = key.shared;
  at.counted.writes = key.writes;
  add_access(at, key, reinterpret_cast<uintptr_t>(address));
}

void end_launch() {
  for (unsigned warp = 0; warp < 32; ++warp) close_all(warp);
  for (const auto& [key, at] : instructions) {
    add(running->kernel, at.counted);
    add(running->lines[key], at.counted);
  }
  instructions.clear();
}

void library_launch(const LibraryKernel& library) {
  KernelTraffic& kernel = totals_of(library.name).kernel;
  ++kernel.launches;
  kernel.requested_read += library.bytes_read;
  kernel.compulsory_read += library.bytes_read;
  kernel.requested_write += library.bytes_written;
  kernel.compulsory_write += library.bytes_written;
}

}  // namespace counter

std::vector<KernelTraffic> traffic() {
  const std::lock_guard lock(mutex());
  std::vector<KernelTraffic> all;
  for (const auto& [name, of] : totals) {
    all.push_back(of.kernel);
    all.back().lines = by_line(of);
  }
  return all;
}

KernelTraffic traffic_of(const std::string& kernel) {
  const std::lock_guard lock(mutex());
  const auto found = totals.find(kernel);
  if (found == totals.end()) return {.name = kernel};
  KernelTraffic of = found->second.kernel;
  of.lines = by_line(found->second);
  return of;
}

void reset_traffic() {
  const std::lock_guard lock(mutex());
  totals.clear();
}

}  // namespace libtrain::kernels::executor
