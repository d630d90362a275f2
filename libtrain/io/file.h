/// Durable files: what is written is on the disk, complete, or not there at all.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libtrain/error.h"

namespace libtrain {

/// A file that is being written; the destructor closes it and ignores what goes wrong then.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  /// Appends all of `bytes`, or throws.
  virtual void write(std::span<const std::byte> bytes) = 0;
  /// Flushes what was written to the disk.
  virtual void sync() = 0;
  /// Can report the failure of an earlier write.
  virtual void close() = 0;
};

/// The file operations that saving rests on, as an interface, so that a test can record them or make any of them fail. Every function
/// throws IoError through throw_io_error().
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  /// Makes one folder. False when there is a folder of that name already.
  virtual bool make_directory(const std::string& path) = 0;
  /// A new file, or an old one emptied.
  virtual std::unique_ptr<OutputFile> create_file(const std::string& path) = 0;
  /// Flushes the folder's list of names to the disk.
  virtual void sync_directory(const std::string& path) = 0;
  /// Moves a file over another, or a folder to a name that is free or has an empty folder.
  virtual void rename(const std::string& from, const std::string& to) = 0;
  /// Removes one file, which must be there.
  virtual void remove_file(const std::string& path) = 0;
  /// Removes an empty folder.
  virtual void remove_directory(const std::string& path) = 0;
};

/// Throws IoError "[path] cannot <operation>: <reason>" with a remedy where there is one; for a full disk with the bytes to write and the
/// bytes free. `error` is an errno.
[[noreturn]] void throw_io_error(const std::string& operation, const std::string& path, int error, int64_t bytes = 0);

/// The operating system's.
FileSystem& real_file_system();

/// Makes the folder and those above it that are missing. Their names are flushed to the disk.
void make_directories(FileSystem& files, const std::string& path);

/// Creates the file, writes all bytes and flushes them to the disk. The folder is not flushed.
void write_file(FileSystem& files, const std::string& path, std::span<const std::byte> bytes);

/// The whole file. Throws IoError when it cannot be read, is no regular file, or is larger than `max_bytes`; OutOfMemory when there is no room for it.
std::vector<std::byte> read_file(const std::string& path, int64_t max_bytes);

/// Replaces the file at `path`: written beside it under a temporary name, flushed, renamed, and the folder flushed.
void write_file_atomically(FileSystem& files, const std::string& path, std::span<const std::byte> bytes);

/// A folder that appears under its name complete or not at all. Files go to "<path>.tmp-<process id>"; commit() flushes that folder, renames
/// it and flushes the folder above. Without commit() the destructor removes what was written, and nothing else.
class StagedDirectory {
 public:
  /// Makes the temporary folder, and those above it that are missing. Throws IoError when it cannot.
  StagedDirectory(FileSystem& files, std::string path);
  ~StagedDirectory();
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;

  /// Writes a file of the folder and flushes it to the disk. Throws IoError when it cannot.
  void write(const std::string& name, std::span<const std::byte> bytes);
  /// Throws IoError, also when something that is no empty folder has the name already.
  void commit();

 private:
  FileSystem& files_;
  std::string path_, staging_;
  std::vector<std::string> written_;
  bool committed_ = false;
};

}  // namespace libtrain
