/// What fuzz targets share: the limits that every input is held to, and files in memory.
///
/// A target defines run() and mutate(). An input may be refused with a libtrain::Error and nothing else. It may take kMostSeconds of processor
/// time, and where it is read, as much memory as measured() is told; whatever takes more is reported as a crash is.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "libtrain/error.h"

namespace libtrain::fuzz {

/// Source of a mutation's choices: the same seed, the same choices (SplitMix64; Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  /// From 0 to `count` - 1; 0 when there is none.
  size_t below(size_t count) { return count == 0 ? 0 : size_t(next() % count); }
  /// True once in `times`.
  bool once_in(size_t times) { return below(times) == 0; }

 private:
  uint64_t state_;
};

/// Reads one input. Defined by each target.
void run(std::string_view input);
/// Another input like this one, of whatever size. Defined by each target.
std::string mutate(const std::string& input, Random& random);
/// Called once, before all inputs. Defined by each target.
void prepare();

/// Mutation without regard to structure: libFuzzer's.
std::string mutate_bytes(const std::string& input, Random& random);

constexpr double kMostSeconds = 0.1;
/// For what does not grow with a file: messages, buffers of the standard library.
constexpr size_t kFixedBytes = 1 << 16;

/// Calls read(), in which the memory in use may grow by twice the size of the file, kFixedBytes, and what `results` says afterwards: the size of
/// results that hold more than the file has bytes.
void measured(
    size_t file_bytes, const std::function<void()>& read,
    const std::function<size_t()>& results = [] { return size_t(0); });

/// Ends the process as a crash unless `condition` holds.
void require(bool condition, const std::string& complaint);

/// A file in memory that has a path.
class MemoryFile {
 public:
  MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile();
  void fill(std::string_view bytes);
  const std::string& path() const { return path_; }

 private:
  int number_;
  std::string path_;
};

}  // namespace libtrain::fuzz
