#include "fuzz/target.h"

#include <sanitizer/allocator_interface.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace libtrain::fuzz {
namespace {

/// Memory in use above what it was when measuring began, of the thread that measures.
struct Meter {
  bool on = false;
  int64_t in_use = 0, most = 0;
};
thread_local Meter meter;

void note_allocation(const volatile void*, size_t bytes) {
  if (!meter.on) return;
  meter.in_use += int64_t(bytes);
  meter.most = std::max(meter.most, meter.in_use);
}

void note_release(const volatile void* block) {
  if (meter.on && block) meter.in_use -= int64_t(__sanitizer_get_allocated_size(const_cast<const void*>(block)));
}

double processor_seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

/// Printed when the process ends: what the driver reports.
struct Summary {
  double slowest = 0;
  int64_t most_memory = 0;
  ~Summary() { std::fprintf(stderr, "SUMMARY slowest_ms %.3f peak_bytes %ld\n", 1e3 * slowest, long(most_memory)); }
};
Summary summary;

void check_message(const char* message) {
  const size_t length = std::strlen(message);
  require(length > 0 && length < kFixedBytes / 8, "a message of " + std::to_string(length) + " bytes");
}

void run_one(std::string_view input) {
  try {
    run(input);
  } catch (const Error& error) {
    check_message(error.what());
  } catch (const std::exception& error) {
    require(false, std::string("an exception that is no libtrain::Error: ") + error.what());
  }
}

}  // namespace

uint64_t Random::next() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

std::string mutate_bytes(const std::string& input, Random& random) {
  std::string bytes = input;
  bytes.resize(input.size() + 1 + random.below(64));
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), input.size(), bytes.size()));
  return bytes;
}

void measured(size_t file_bytes, const std::function<void()>& read, const std::function<size_t()>& results) {
  struct Off {
    ~Off() { meter.on = false; }
  };
  const auto check = [&](size_t extra) {
    meter.on = false;
    const size_t limit = 2 * file_bytes + kFixedBytes + extra;
    summary.most_memory = std::max(summary.most_memory, meter.most);
    require(meter.most <= int64_t(limit), "reading " + std::to_string(file_bytes) + " bytes took " +
                                              std::to_string(meter.most) + " bytes of memory, more than " +
                                              std::to_string(limit));
  };
  const Off off;
  meter = {.on = true};
  try {
    read();
  } catch (...) {
    meter.on = false;
    check(results());
    throw;
  }
  meter.on = false;
  check(results());
}

void require(bool condition, const std::string& complaint) {
  if (condition) return;
  meter.on = false;
  std::fprintf(stderr, "FOUND: %s\n", complaint.c_str());
  std::abort();
}

MemoryFile::MemoryFile() : number_(memfd_create("fuzz", 0)), path_("/proc/self/fd/" + std::to_string(number_)) {
  if (number_ < 0) throw std::runtime_error("no memfd");
}
MemoryFile::~MemoryFile() { close(number_); }

void MemoryFile::fill(std::string_view bytes) {
  if (ftruncate(number_, 0) != 0 || pwrite(number_, bytes.data(), bytes.size(), 0) != ssize_t(bytes.size()))
    throw std::runtime_error("cannot write to memory");
}

}  // namespace libtrain::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  using namespace libtrain::fuzz;
  __sanitizer_install_malloc_and_free_hooks(note_allocation, note_release);
  prepare();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace libtrain::fuzz;
  double seconds = 1e9;
  for (int i = 0; i < 3 && seconds > kMostSeconds; ++i) {  // a host may count as ours what it gave to others
    const double begin = processor_seconds();
    run_one({reinterpret_cast<const char*>(data), size});
    seconds = std::min(seconds, processor_seconds() - begin);
  }
  summary.slowest = std::max(summary.slowest, seconds);
  require(seconds <= kMostSeconds, "an input that took " + std::to_string(1e3 * seconds) + " ms");
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  using namespace libtrain::fuzz;
  Random random(seed);
  const std::string mutant = mutate({reinterpret_cast<const char*>(data), size}, random);
  const size_t kept = std::min(mutant.size(), max_size);
  std::memcpy(data, mutant.data(), kept);
  return kept;
}
