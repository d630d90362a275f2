/// The safetensors file format (https://github.com/huggingface/safetensors): eight bytes with the length of a JSON header, the header, and
/// the elements of all tensors without gaps. Files written here load there, and the other way round.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
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
  /// Throws CheckpointError "[path] field: expected …, got … (byte 41 of the file)" for whatever breaks the format, or exceeds its limits: a
  /// header of 100,000,000 bytes, a million tensors, names of 4096 bytes, eight dimensions; a file of torch.save is called one. IoError when the
  /// file cannot be read.
  /// Beside the file's bytes it takes less memory than the header has bytes.
  static SafetensorsFile read(const std::string& path);
  /// Likewise for bytes that are in memory already; messages call them `label`.
  static SafetensorsFile parse(std::vector<std::byte> bytes, const std::string& label);

  /// Sorted.
  std::vector<std::string> names() const;
  /// Whether entry(name) finds a tensor.
  bool contains(const std::string& name) const { return find(name) != nullptr; }
  /// Its bytes live as long as this file. Throws CheckpointError when there is no tensor of that name.
  TensorEntry entry(const std::string& name) const;
  /// The texts under "__metadata__" of the header; empty when it has none.
  std::map<std::string, std::string> metadata() const;

  /// Entries stay valid and belong to the new owner.
  SafetensorsFile(SafetensorsFile&&) = default;
  /// Likewise; entries of the file that was held before are gone.
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

 private:
  /// Of a tensor: its bytes in the data, and where in the header its name and its fields begin.
  struct Place {
    int64_t begin, end;
    uint32_t name, json;
  };

  SafetensorsFile() = default;  // and not copyable: entries point into bytes_
  std::string_view header() const;
  void check_header();
  void check_places();
  const Place* find(const std::string& name) const;

  std::string label_;
  std::vector<std::byte> bytes_;
  uint64_t data_ = 0;         // where in the file the data begins
  std::deque<Place> places_;  // sorted by name; a deque never has two copies of itself while it grows
  uint32_t metadata_ = 0;     // where in the header the metadata begins; 0: there is none
};

}  // namespace libtrain
