/// What a checkpoint is complete with, read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "libtrain/io/json.h"

namespace libtrain {

inline constexpr const char* kManifestFormat = "libtrain checkpoint";  // the member "format"
inline constexpr int64_t kManifestVersion = 4;                         // the member "version"

/// A number as text: exact, and able to hold what JSON cannot (infinity, NaN). Manifest::exact() reads it.
std::string exact_text(double value);

/// The manifest of a checkpoint as it stands in its file. Fields are named by the names of members, with a slash between them ("state/epoch");
/// every complaint is a CheckpointError that names file, field and byte.
class Manifest {
 public:
  /// Reads and checks that of the checkpoint's folder `path`: it is JSON, of this format and version, and has the hash that it ends with.
  /// Throws CheckpointError, or IoError when it cannot be read.
  explicit Manifest(const std::string& path);

  /// Of the file.
  const std::string& path() const { return path_; }
  /// Whether there is such a field.
  bool contains(const std::string& field) const { return !look_up(field).missing; }
  /// The value of a field that must be there.
  JsonView at(const std::string& field) const;
  /// A whole number from 0 to 2^64 - 1.
  uint64_t word(const std::string& field) const;
  /// A whole number from 0 to 2^53.
  int64_t count(const std::string& field) const;
  /// A text.
  std::string text(const std::string& field) const;
  /// What exact_text() has written.
  double exact(const std::string& field) const;
  /// Complains of a field that it is not what was expected.
  [[noreturn]] void refuse(const std::string& field, const std::string& expected) const;

 private:
  struct Found {
    JsonView value;  // the innermost that is there
    bool missing;
  };

  std::string_view all() const;
  Found look_up(std::string_view field) const;

  std::string path_;
  std::vector<std::byte> bytes_;
};

}  // namespace libtrain
