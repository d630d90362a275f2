/// Every `new` of the training thread fails, one at a time, through steps, construction, batches, saving and loading. An executable of its own, for
/// it replaces operator new. Exit status 1, with what was found on stdout, when something is left behind or differs.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "data/temporary_file.h"
#include "train/memory_faults.h"

namespace {

// Of this thread alone: what others need while it waits for them is not its own work.
thread_local int64_t until_failure = -1, until_recovery = -1;
thread_local std::size_t smallest = 0;  // blocks below are always there
std::atomic<int64_t> blocks_alive = 0;

bool arm_new(int64_t first, int64_t count) {
  const bool failed = until_recovery >= 0 && until_failure < 0;
  until_failure = first;
  until_recovery = count > 0 ? first + count : -1;
  return failed;
}

bool must_fail(std::size_t bytes) {
  return bytes >= smallest && until_recovery > 0 && --until_recovery >= 0 && --until_failure < 0;
}

}  // namespace

// Not inlined: GCC would take some pairs of the two for needless and remove half of them.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (must_fail(bytes)) throw std::bad_alloc();
  void* block = std::malloc(bytes ? bytes : 1);
  if (!block) throw std::bad_alloc();
  ++blocks_alive;
  return block;
}
[[gnu::noinline]] void operator delete(void* block) noexcept {
  if (!block) return;
  --blocks_alive;
  std::free(block);
}
[[gnu::noinline]] void operator delete(void* block, std::size_t) noexcept { operator delete(block); }

namespace libtrain::testing {
namespace {

bool report(const char* what, bool forever, const MemoryFaults& result) {
  std::printf("%s, %s: %ld allocations failed%s%s\n", what, forever ? "from one on" : "once", long(result.failures),
              result.faults.empty() ? "" : "; ", result.faults.c_str());
  return result.faults.empty() && result.failures > 10;
}

bool everything_holds(bool forever) {
  const ParametersOptions store{.seed = 5, .average = true}, mixed{.mixed_precision = true, .seed = 5, .average = true};
  bool good = report("steps", forever, faults_of_steps(arm_new, forever, store, 5));
  good &= report("mixed precision", forever, faults_of_steps(arm_new, forever, mixed, 2));
  good &= report("construction", forever, faults_of_construction(arm_new, forever, store));
  good &= report("adding", forever, faults_of_adding(arm_new, forever, mixed));
  good &= report("batches", forever, faults_of_batches(arm_new, forever, Device::kCpu));
  const test::TemporaryFile place("");
  smallest = 16384;  // nlohmann-json allocates in its destructor, of which no exception can come
  good &= report("checkpoints", forever, faults_of_checkpoints(arm_new, forever, store, place.folder()));
  smallest = 0;
  return good;
}

/// An optimizer that needs memory when the weights have changed already: the check must notice.
bool planted_fault_is_found() {
  const Optimizer late{1e-3, [](const Parameters& parameters) {
                         adam_update(parameters, {});
                         operator delete(operator new(100));
                       }};
  const auto result = faults_of_steps(arm_new, false, {.seed = 5, .average = true}, 2, late);
  return result.faults.find("changed") != std::string::npos;
}

int run() {
  everything_holds(false), everything_holds(true);  // caches fill
  const int64_t before = blocks_alive;
  const bool once = everything_holds(false), forever = everything_holds(true);
  const int64_t leaked = blocks_alive - before;
  std::printf("blocks left behind: %ld\n", long(leaked));
  const bool planted = planted_fault_is_found();
  if (!planted) std::printf("a planted fault was not found\n");
  return once && forever && planted && leaked == 0 ? 0 : 1;
}

}  // namespace
}  // namespace libtrain::testing

int main() { return libtrain::testing::run(); }
