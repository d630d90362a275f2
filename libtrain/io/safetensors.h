/// The safetensors file format (https://github.com/huggingface/safetensors): eight bytes with the length of a JSON header, the header, and
/// the elements of all tensors without gaps. Files written here load there, and the other way round.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "libtrain/error.h"

namespace libtrain {

/// A named tensor: dtype is "F32", "F64", "BF16", "I32", "I64" or "U8"; bytes are its elements, row-major, little-endian.
struct TensorEntry {
  std::string name, dtype;           // UTF-8, and one of the six
  std::vector<int64_t> shape;        // outermost first; empty for a scalar
  std::span<const std::byte> bytes;  // not owned: they belong to whoever made the entry
};

/// The file that holds these tensors, sorted by name: the same tensors give the same bytes. Throws InvalidArgument for an unknown dtype, a
/// name that occurs twice, bytes that do not fit dtype and shape, or names and metadata that are not UTF-8.
std::vector<std::byte> write_safetensors(std::span<const TensorEntry> entries,
                                         const std::map<std::string, std::string>& metadata = {});

/// A file in memory, checked whole: every tensor's dtype, shape and place fit, and places cover the data exactly.
class SafetensorsFile {
 public:
  /// Throws CheckpointError "[path] field: expected …, got …" for whatever breaks the format, IoError when the file cannot be read.
  static SafetensorsFile read(const std::string& path);
  /// Likewise for bytes that are in memory already; messages call them `label`.
  static SafetensorsFile parse(std::vector<std::byte> bytes, const std::string& label);

  /// Sorted.
  std::vector<std::string> names() const;
  /// Whether entry(name) finds a tensor.
  bool contains(const std::string& name) const { return entries_.contains(name); }
  /// Its bytes live as long as this file. Throws CheckpointError when there is no tensor of that name.
  const TensorEntry& entry(const std::string& name) const;
  /// The texts under "__metadata__" of the header; empty when it has none.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// Entries stay valid and belong to the new owner.
  SafetensorsFile(SafetensorsFile&&) = default;
  /// Likewise; entries of the file that was held before are gone.
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

 private:
  SafetensorsFile() = default;  // and not copyable: entries point into bytes_

  std::string label_;
  std::vector<std::byte> bytes_;
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace libtrain
