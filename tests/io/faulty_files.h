/// A file system that keeps a record of its operations and can make any one of them fail.
#pragma once
#include <cerrno>
#include <string>
#include <vector>

#include "libtrain/io/file.h"

namespace libtrain::test {

class FaultyFiles : public FileSystem {
 public:
  /// Paths in the record are shown without `folder`.
  explicit FaultyFiles(std::string folder) : folder_(std::move(folder)) {}

  /// Operation number `operation`, counted from 0 over all that follow, fails with this errno; -1: none does. Clears the record.
  void fail_at(int operation, int error = EIO) {
    fail_at_ = operation;
    error_ = error;
    record.clear();
  }

  std::vector<std::string> record;

  bool make_directory(const std::string& path) override {
    note("make", path);
    return real_file_system().make_directory(path);
  }
  std::unique_ptr<OutputFile> create_file(const std::string& path) override {
    note("create", path);
    return std::make_unique<File>(*this, path);
  }
  void sync_directory(const std::string& path) override {
    note("sync", path);
    real_file_system().sync_directory(path);
  }
  void rename(const std::string& from, const std::string& to) override {
    note("rename", from, " to " + shown(to));
    real_file_system().rename(from, to);
  }
  void remove_file(const std::string& path) override {
    note("remove", path);
    real_file_system().remove_file(path);
  }
  void remove_directory(const std::string& path) override {
    note("remove", path);
    real_file_system().remove_directory(path);
  }

 private:
  class File : public OutputFile {
   public:
    File(FaultyFiles& files, const std::string& path)
        : files_(files), path_(path), real_(real_file_system().create_file(path)) {}
    /// A failing write leaves half of the bytes, as a full disk does.
    void write(std::span<const std::byte> bytes) override {
      if (files_.fails_next()) real_->write(bytes.first(bytes.size() / 2));
      files_.note("write", path_, "", int64_t(bytes.size()));
      real_->write(bytes);
    }
    void sync() override {
      files_.note("sync", path_);
      real_->sync();
    }
    void close() override {
      files_.note("close", path_);
      real_->close();
    }

   private:
    FaultyFiles& files_;
    std::string path_;
    std::unique_ptr<OutputFile> real_;
  };

  /// The path without the folder, and without the number of this process.
  std::string shown(std::string path) const {
    if (path.starts_with(folder_)) path = path.size() == folder_.size() ? "." : path.substr(folder_.size() + 1);
    const size_t at = path.find(".tmp-");
    if (at != path.npos) path.erase(at + 4, path.find_first_not_of("0123456789", at + 5) - (at + 4));
    return path;
  }
  bool fails_next() const { return int(record.size()) == fail_at_; }
  void note(const char* operation, const std::string& path, const std::string& rest = "", int64_t bytes = 0) {
    const bool fails = fails_next();
    record.push_back(operation + (" " + shown(path)) + rest);
    if (fails) throw_io_error(operation, path, error_, bytes);
  }

  std::string folder_;
  int fail_at_ = -1, error_ = EIO;
};

}  // namespace libtrain::test
