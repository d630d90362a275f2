/// Between tensors and safetensors files: by name, and checked before anything is changed.
#pragma once
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "libtrain/io/safetensors.h"
#include "libtrain/tensor.h"

namespace libtrain {

/// Tensors under their names, kept alive on the host until they are written.
class TensorFile {
 public:
  /// Copies the elements to the host: what happens to the tensor later does not matter.
  void add(const std::string& name, const Tensor& tensor);
  /// A whole safetensors file. Throws InvalidArgument when a name was added twice.
  std::vector<std::byte> bytes() const;
  /// The hash of each tensor's elements (xxh3_128_hex), by name in the order of add().
  std::vector<std::pair<std::string, std::string>> hashes() const;

 private:
  std::vector<std::pair<std::string, Tensor>> tensors_;
};

/// Where each tensor of a file goes. Checks everything first, so that a file that does not fit changes nothing.
class TensorTargets {
 public:
  /// Only tensors of the file whose names begin with this are looked at; targets are named without it.
  std::string below = {};

  /// `name` without what stands in `below`. The last target given for a name counts.
  void add(const std::string& name, const Tensor& target) { targets_[name] = target; }
  /// Throws CheckpointError listing what is missing, unexpected, or of another shape or dtype. `convert`: accept f32 for f64 and the other
  /// way round.
  void check(const SafetensorsFile& file, const std::string& path, bool convert) const;
  /// Copies what check() has accepted.
  void copy(const SafetensorsFile& file) const;

 private:
  std::map<std::string, Tensor> targets_;
};

}  // namespace libtrain
