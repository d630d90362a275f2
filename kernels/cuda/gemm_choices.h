/// Which algorithm cuBLASLt uses for which product, where that was timed (LIBTRAIN_TUNE_GEMM): in a file, so that every process that reads it
/// computes the same bits. Knows nothing of CUDA.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>

namespace libtrain::kernels {

/// The choices of one device and one version of cuBLASLt. Not thread-safe; several processes may use one folder.
class GemmChoices {
 public:
  using Key = std::array<int64_t, 18>;        // everything that the choice depends on, but device and versions
  using Algorithm = std::array<uint64_t, 8>;  // cublasLtMatmulAlgo_t, which may be stored

  /// Reads the file of `identity` (a line that names device and versions) in `folder`. No file, one that is damaged, and one of another
  /// identity are all the same: no choices. An empty folder: choices are kept in this object alone.
  GemmChoices(const std::string& folder, std::string identity);

  /// nullptr when there is none.
  const Algorithm* find(const Key& key) const;

  /// Keeps a choice and writes the file anew, whole or not at all, with what other processes have written meanwhile. Returns the
  /// choice that counts: the one of another process, where that was first.
  Algorithm keep(const Key& key, const Algorithm& algorithm);

  /// Why the file could not be written the last time; empty when it could.
  const std::string& failure() const { return failure_; }
  /// Of the file; empty when there is none.
  const std::string& path() const { return path_; }

 private:
  void merge();
  std::string text() const;
  void write();

  std::string path_, identity_, failure_;
  std::map<Key, Algorithm> choices_;
};

/// LIBTRAIN_CACHE, or libtrain below XDG_CACHE_HOME, or below .cache of HOME: the first of these variables that is set. Empty when none is.
std::string cache_folder();

/// Whether LIBTRAIN_TUNE_GEMM is 1; unset, empty and 0 mean no. Throws Failure for anything else.
bool gemm_tuning_asked_for();

}  // namespace libtrain::kernels
