#include "libtrain/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace libtrain {
namespace {

std::string parent_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent;
}

std::string temporary_name(const std::string& path) { return path + ".tmp-" + std::to_string(getpid()); }

[[noreturn]] void fail(const char* operation, const std::string& path, int error, int64_t bytes = 0) {
  std::string remedy;
  struct statvfs disk;
  if ((error == ENOSPC || error == EDQUOT) && statvfs(parent_of(path).c_str(), &disk) == 0)
    remedy = format_message("; {} bytes to write, {} free: make room or choose another folder", bytes,
                            uint64_t(disk.f_bavail) * disk.f_frsize);
  throw IoError(format_message("[{}] cannot {}: {}{}", path, operation, std::strerror(error), remedy));
}

/// Repeats a system call that a signal interrupted.
template <class Call> auto uninterrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

/// An open file, closed with the object.
class OpenFile {
 public:
  OpenFile(const std::string& path, const char* purpose, int flags) : path_(path) {
    number_ = uninterrupted([&] { return open(path.c_str(), flags | O_CLOEXEC, 0666); });
    if (number_ < 0) fail(purpose, path, errno);
  }
  ~OpenFile() {
    if (number_ >= 0) close(number_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  void write_all(std::span<const std::byte> bytes) {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t written = uninterrupted([&] { return write(number_, bytes.data() + done, bytes.size() - done); });
      if (written < 0) fail("write", path_, errno, int64_t(bytes.size()));
      done += size_t(written);
    }
  }
  size_t read_some(std::span<std::byte> bytes) {
    const ssize_t got = uninterrupted([&] { return read(number_, bytes.data(), bytes.size()); });
    if (got < 0) fail("read", path_, errno);
    return size_t(got);
  }
  void sync() {
    if (uninterrupted([&] { return fsync(number_); }) < 0) fail("flush", path_, errno);
  }
  /// Closing can report an error of an earlier write.
  void finish() {
    const int number = std::exchange(number_, -1);
    if (close(number) < 0 && errno != EINTR) fail("close", path_, errno);
  }
  int number() const { return number_; }

 private:
  std::string path_;
  int number_;
};

class RealFileSystem : public FileSystem {
 public:
  void make_directories(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) fail("make the folder", path, error.value());
  }
  void write_file(const std::string& path, std::span<const std::byte> bytes) override {
    OpenFile file(path, "create", O_WRONLY | O_CREAT | O_TRUNC);
    file.write_all(bytes);
    file.sync();
    file.finish();
  }
  void sync_directory(const std::string& path) override {
    OpenFile(path, "open the folder", O_RDONLY | O_DIRECTORY).sync();
  }
  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) < 0) fail("give the name to what was written", to, errno);
  }
  void remove_file(const std::string& path) override {
    if (unlink(path.c_str()) < 0) fail("remove", path, errno);
  }
  void remove_directory(const std::string& path) override {
    if (rmdir(path.c_str()) < 0) fail("remove the folder", path, errno);
  }
};

}  // namespace

FileSystem& real_file_system() {
  static RealFileSystem files;
  return files;
}

std::vector<std::byte> read_file(const std::string& path, int64_t max_bytes) {
  OpenFile file(path, "open", O_RDONLY);
  struct stat status;
  if (fstat(file.number(), &status) < 0) fail("examine", path, errno);
  if (S_ISDIR(status.st_mode)) fail("read", path, EISDIR);
  if (status.st_size > max_bytes)
    throw IoError(format_message("[{}] has {} bytes, expected at most {}", path, int64_t(status.st_size), max_bytes));
  std::vector<std::byte> bytes(static_cast<size_t>(status.st_size));
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t got = file.read_some(std::span(bytes).subspan(done));
    if (got == 0) break;  // it shrank while it was read
    done += got;
  }
  bytes.resize(done);
  return bytes;
}

void write_file_atomically(FileSystem& files, const std::string& path, std::span<const std::byte> bytes) {
  const std::string staging = temporary_name(path);
  try {
    files.write_file(staging, bytes);
    files.rename(staging, path);
  } catch (...) {
    unlink(staging.c_str());
    throw;
  }
  files.sync_directory(parent_of(path));
}

StagedDirectory::StagedDirectory(FileSystem& files, std::string path)
    : files_(files), path_(std::move(path)), staging_(temporary_name(path_)) {
  files_.make_directories(staging_);
}

StagedDirectory::~StagedDirectory() {
  if (committed_) return;
  const auto try_to = [](const auto& remove) {
    try {
      remove();
    } catch (const IoError&) {  // the failure that brought us here is the one to report
    }
  };
  for (const std::string& name : written_) try_to([&] { files_.remove_file(staging_ + "/" + name); });
  try_to([&] { files_.remove_directory(staging_); });
}

void StagedDirectory::write(const std::string& name, std::span<const std::byte> bytes) {
  written_.push_back(name);
  files_.write_file(staging_ + "/" + name, bytes);
}

void StagedDirectory::commit() {
  files_.sync_directory(staging_);
  files_.rename(staging_, path_);
  committed_ = true;
  files_.sync_directory(parent_of(path_));
}

}  // namespace libtrain
