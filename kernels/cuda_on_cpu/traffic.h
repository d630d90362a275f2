/// What instrumented kernels ask of memory: a measure of performance that needs no device. The k-th accesses of a warp's lanes at one
/// instruction, since the warp last met, are one request. A request to device memory costs the 32-byte sectors that it touches; one to
/// shared memory costs cycles, in each of which every one of 32 banks gives 4 bytes. Caches are not modelled: `requested` is what a
/// kernel asks of the first cache, `compulsory` what has to cross the bus if nothing is moved twice within a launch.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace libtrain::kernels::executor {

constexpr int64_t kSectorBytes = 32;

/// Of one line of a kernel, in one memory and one direction.
struct LineTraffic {
  std::string line;                        // of the sources
  bool shared = false;                     // memory: shared or the device's
  bool writes = false;                     // atomics count as writes
  int64_t requests = 0;                    // of warps
  int64_t bytes = 0;                       // summed over lanes
  int64_t sectors = 0, least_sectors = 0;  // device memory: touched, and as few as could hold what was asked for
  int64_t cycles = 0, least_cycles = 0;    // shared memory: of its banks, and without conflicts
};

/// Of all launches of one kernel since reset_traffic(). Bytes of the device's memory are whole sectors.
struct KernelTraffic {
  std::string name;
  int64_t launches = 0, blocks = 0, barriers = 0;  // barriers: summed over blocks
  int64_t requested_read = 0, requested_write = 0;
  int64_t compulsory_read = 0, compulsory_write = 0;  // of what a launch writes itself, it need not read anything
  int64_t bank_cycles = 0, least_bank_cycles = 0;
  std::vector<LineTraffic> lines{};

  int64_t requested() const { return requested_read + requested_write; }
  int64_t compulsory() const { return compulsory_read + compulsory_write; }
  int64_t bank_conflicts() const { return bank_cycles - least_bank_cycles; }
};

/// By name. Only of launches that ran under Observer::traffic, and of library kernels (which ask for what is compulsory).
std::vector<KernelTraffic> traffic();
/// Of one kernel; all zero if it was not launched.
KernelTraffic traffic_of(const std::string& kernel);
void reset_traffic();

/// One line a kernel; with `with_lines`, also one line for each line of its sources.
std::string traffic_table(bool with_lines = false);

}  // namespace libtrain::kernels::executor
