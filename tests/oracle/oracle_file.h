/// What PyTorch computed, as the scripts of this folder wrote it.
#pragma once
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "libtrain/io/safetensors.h"
#include "libtrain/libtrain.h"
#include "op_cases.h"

namespace libtrain::testing {

/// A file of the oracle; tensors as double or as int32.
class OracleFile {
 public:
  explicit OracleFile(const std::string& name)
      : path_(std::string(LIBTRAIN_SOURCE_DIR) + "/tests/oracle/" + name), file_(SafetensorsFile::read(path_)) {}

  const std::string& path() const { return path_; }

  Tensor tensor(const std::string& name) const {
    const TensorEntry entry = file_.entry(name);
    const DType dtype = entry.dtype == "F64" ? DType::f64 : entry.dtype == "F32" ? DType::f32 : DType::i32;
    const Tensor tensor(Shape(std::span<const int64_t>(entry.shape)), dtype);
    copy_bytes(tensor.node_handle()->data, Device::kCpu, entry.bytes.data(), Device::kCpu, entry.bytes.size());
    return tensor;
  }
  Values values(const std::string& name) const { return values_of(tensor(name)); }
  std::vector<std::string> names_below(const std::string& prefix) const {
    std::vector<std::string> found;
    for (const std::string& name : file_.names())
      if (name.starts_with(prefix)) found.push_back(name.substr(prefix.size()));
    return found;
  }

 private:
  std::string path_;
  SafetensorsFile file_;
};

/// Difference of two tensors, relative to the largest value.
inline double relative_difference(const Values& ours, const Values& theirs) {
  REQUIRE(ours.size() == theirs.size());
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < ours.size(); ++i) {
    REQUIRE(std::isfinite(ours[i]));
    worst = std::max(worst, std::abs(ours[i] - theirs[i]));
    largest = std::max(largest, std::abs(theirs[i]));
  }
  return worst / largest;
}

}  // namespace libtrain::testing
