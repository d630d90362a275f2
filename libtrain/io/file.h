/// Durable files: what is written is on the disk, complete, or not there at all.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libtrain/error.h"

namespace libtrain {

/// The file operations that saving rests on, as an interface, so that a test can record them or make any of them fail. Every function
/// throws IoError naming operation, path and reason; a full disk with the bytes needed and free.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  /// Makes the folder and those above it, if they are not there.
  virtual void make_directories(const std::string& path) = 0;
  /// Creates the file anew, writes all bytes, and flushes them to the disk.
  virtual void write_file(const std::string& path, std::span<const std::byte> bytes) = 0;
  /// Flushes the folder's list of names to the disk.
  virtual void sync_directory(const std::string& path) = 0;
  /// Moves a file over another, or a folder to a name that is free.
  virtual void rename(const std::string& from, const std::string& to) = 0;
  virtual void remove_file(const std::string& path) = 0;
  /// Removes an empty folder.
  virtual void remove_directory(const std::string& path) = 0;
};

/// The operating system's.
FileSystem& real_file_system();

/// The whole file. Throws IoError when it cannot be read or is larger than `max_bytes`.
std::vector<std::byte> read_file(const std::string& path, int64_t max_bytes);

/// Replaces the file at `path`: written beside it under a temporary name, flushed, renamed, and the folder flushed.
void write_file_atomically(FileSystem& files, const std::string& path, std::span<const std::byte> bytes);

/// A folder that appears under its name complete or not at all. Files go to "<path>.tmp-<process id>"; commit() flushes that folder, renames
/// it and flushes the folder above. Without commit() the destructor removes what was written, and nothing else.
class StagedDirectory {
 public:
  /// Throws IoError when the temporary folder cannot be made.
  StagedDirectory(FileSystem& files, std::string path);
  ~StagedDirectory();
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;

  void write(const std::string& name, std::span<const std::byte> bytes);
  /// Throws IoError, also when something has the name already.
  void commit();

 private:
  FileSystem& files_;
  std::string path_, staging_;
  std::vector<std::string> written_;
  bool committed_ = false;
};

}  // namespace libtrain
