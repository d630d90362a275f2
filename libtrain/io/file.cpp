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

/// The free space where `path` is or would be.
std::string disk_remedy(const std::string& path, int64_t bytes) {
  struct statvfs disk;
  std::string place = path;
  while (statvfs(place.c_str(), &disk) != 0) {
    const std::string above = parent_of(place);
    if (above == place) return "; make room or choose another folder";
    place = above;
  }
  return format_message("; {} bytes to write, {} free: make room or choose another folder", bytes,
                        uint64_t(disk.f_bavail) * disk.f_frsize);
}

std::string remedy(const std::string& path, int error, int64_t bytes) {
  switch (error) {
    case ENOSPC:
      return disk_remedy(path, bytes);
    case EDQUOT:
      return format_message("; {} bytes to write: make room within your quota or choose another folder", bytes);
    case EACCES:
    case EPERM:
    case EROFS:
      return "; check its permissions and those of the folder above, or choose another place";
    case ENOENT:
      return "; check the path";
    case ENOTDIR:
      return "; a part of the path is a file: choose another place";
    case EEXIST:
    case ENOTEMPTY:
      return "; something else has that name: move it away or choose another place";
    case EIO:
      return "; the disk or the connection to it fails: choose another place";
    case EISDIR:
      return "; name a file, not a folder";
    case ENAMETOOLONG:
      return "; choose a shorter name";
    case ELOOP:
      return "; symbolic links lead in a circle: choose another place";
    case EMFILE:
    case ENFILE:
      return "; too many files are open: close some, or raise the limit (ulimit -n)";
    case EFBIG:
      return format_message("; {} bytes to write, more than a file may have there: choose another folder", bytes);
    default:
      return "; choose another place";
  }
}

/// Repeats a system call that a signal interrupted.
template <class Call> auto uninterrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

/// An open file, closed with the object.
class OpenFile : public OutputFile {
 public:
  OpenFile(const std::string& path, const char* purpose, int flags) : path_(path) {
    number_ = uninterrupted([&] { return open(path.c_str(), flags | O_CLOEXEC, 0666); });
    if (number_ < 0) throw_io_error(purpose, path, errno);
  }
  ~OpenFile() override {
    if (number_ >= 0) ::close(number_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  void write(std::span<const std::byte> bytes) override {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t written = uninterrupted([&] { return ::write(number_, bytes.data() + done, bytes.size() - done); });
      if (written <= 0) throw_io_error("write", path_, written < 0 ? errno : EIO, int64_t(bytes.size()));
      done += size_t(written);
    }
  }
  size_t read_some(std::span<std::byte> bytes) {
    const ssize_t got = uninterrupted([&] { return read(number_, bytes.data(), bytes.size()); });
    if (got < 0) throw_io_error("read", path_, errno);
    return size_t(got);
  }
  void sync() override {
    if (uninterrupted([&] { return fsync(number_); }) < 0) throw_io_error("flush", path_, errno);
  }
  void close() override {
    const int number = std::exchange(number_, -1);
    if (::close(number) < 0 &&
        errno != EINTR)  // interrupted, it is closed nevertheless: on Linux it must not be repeated
      throw_io_error("close", path_, errno);
  }
  int number() const { return number_; }

 private:
  std::string path_;
  int number_;
};

class RealFileSystem : public FileSystem {
 public:
  bool make_directory(const std::string& path) override {
    if (uninterrupted([&] { return mkdir(path.c_str(), 0777); }) == 0) return true;
    const int error = errno;
    std::error_code ignored;
    if (error != EEXIST || !std::filesystem::is_directory(path, ignored))
      throw_io_error("make the folder", path, error);
    return false;
  }
  std::unique_ptr<OutputFile> create_file(const std::string& path) override {
    return std::make_unique<OpenFile>(path, "create", O_WRONLY | O_CREAT | O_TRUNC);
  }
  void sync_directory(const std::string& path) override {
    OpenFile(path, "open the folder", O_RDONLY | O_DIRECTORY).sync();
  }
  void rename(const std::string& from, const std::string& to) override {
    if (uninterrupted([&] { return ::rename(from.c_str(), to.c_str()); }) < 0)
      throw_io_error("give the name to what was written", to, errno);
  }
  void remove_file(const std::string& path) override {
    if (uninterrupted([&] { return unlink(path.c_str()); }) < 0) throw_io_error("remove", path, errno);
  }
  void remove_directory(const std::string& path) override {
    if (uninterrupted([&] { return rmdir(path.c_str()); }) < 0) throw_io_error("remove the folder", path, errno);
  }
};

/// For cleaning up after a failure: that failure is the one to report.
template <class Remove> void try_to(const Remove& remove) {
  try {
    remove();
  } catch (const std::exception&) {
  }
}

std::vector<std::byte> room_for(int64_t bytes, const std::string& path) {
  try {
    return std::vector<std::byte>(static_cast<size_t>(bytes));
  } catch (const std::exception&) {
    throw OutOfMemory(
        format_message("[{}] has {} bytes, more than there is memory for; is it the right file?", path, bytes));
  }
}

}  // namespace

FileSystem& real_file_system() {
  static RealFileSystem files;
  return files;
}

void throw_io_error(const std::string& operation, const std::string& path, int error, int64_t bytes) {
  throw IoError(
      format_message("[{}] cannot {}: {}{}", path, operation, std::strerror(error), remedy(path, error, bytes)));
}

void make_directories(FileSystem& files, const std::string& path) {
  std::error_code ignored;  // what cannot be examined cannot be made either, and that is reported
  if (std::filesystem::is_directory(path, ignored)) return;
  const std::string parent = parent_of(path);
  if (parent != path) make_directories(files, parent);
  if (files.make_directory(path)) files.sync_directory(parent);
}

void write_file(FileSystem& files, const std::string& path, std::span<const std::byte> bytes) {
  const auto file = files.create_file(path);
  file->write(bytes);
  file->sync();
  file->close();
}

std::vector<std::byte> read_file(const std::string& path, int64_t max_bytes) {
  OpenFile file(path, "open", O_RDONLY | O_NONBLOCK);  // a pipe without a writer would wait for ever
  struct stat status;
  if (fstat(file.number(), &status) < 0) throw_io_error("examine", path, errno);
  if (S_ISDIR(status.st_mode)) throw_io_error("read", path, EISDIR);
  if (!S_ISREG(status.st_mode))
    throw IoError(format_message("[{}] is no regular file; name a file, not a pipe or a device", path));
  if (status.st_size > max_bytes)
    throw IoError(format_message("[{}] has {} bytes, expected at most {}; is it the right file?", path,
                                 int64_t(status.st_size), max_bytes));
  std::vector<std::byte> bytes = room_for(status.st_size, path);
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
    write_file(files, staging, bytes);
    files.rename(staging, path);
  } catch (...) {
    try_to([&] { files.remove_file(staging); });
    throw;
  }
  files.sync_directory(parent_of(path));
}

StagedDirectory::StagedDirectory(FileSystem& files, std::string path)
    : files_(files), path_(std::move(path)), staging_(temporary_name(path_)) {
  make_directories(files_, parent_of(path_));
  files_.make_directory(staging_);  // one of that name was abandoned by an earlier process: its files are overwritten
}

StagedDirectory::~StagedDirectory() {
  if (committed_) return;
  for (const std::string& name : written_) try_to([&] { files_.remove_file(staging_ + "/" + name); });
  try_to([&] { files_.remove_directory(staging_); });
}

void StagedDirectory::write(const std::string& name, std::span<const std::byte> bytes) {
  written_.push_back(name);
  write_file(files_, staging_ + "/" + name, bytes);
}

void StagedDirectory::commit() {
  files_.sync_directory(staging_);
  files_.rename(staging_, path_);
  committed_ = true;
  files_.sync_directory(parent_of(path_));
}

}  // namespace libtrain
