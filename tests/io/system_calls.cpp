#include "io/system_calls.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <thread>

namespace libtrain::test {
namespace {

SystemCalls* watcher = nullptr;
std::thread::id watched_thread;

std::string path_behind(int descriptor) {
  char path[4096];
  const ssize_t size = readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), path, sizeof path);
  return {path, size_t(std::max<ssize_t>(size, 0))};
}

template <class F> F next(const char* name) { return reinterpret_cast<F>(dlsym(RTLD_NEXT, name)); }

}  // namespace

SystemCalls::SystemCalls(std::string folder) : folder_(std::move(folder)) {
  watched_thread = std::this_thread::get_id();
  watcher = this;
}
SystemCalls::~SystemCalls() { watcher = nullptr; }

void SystemCalls::fail_at(int call, int error, int times) {
  call_ = call, error_ = error, times_ = times, shorten_ = -1;
  record.clear();
}
void SystemCalls::shorten_at(int call) {
  call_ = -1, shorten_ = call;
  record.clear();
}

/// What each call goes through.
struct CallGate {
  /// Whether a call on this path is to fail; then errno is set.
  static bool fails(const char* name, const std::string& path) {
    if (!watcher || std::this_thread::get_id() != watched_thread || !path.starts_with(watcher->folder_)) return false;
    std::string shown = path.size() == watcher->folder_.size() ? "." : path.substr(watcher->folder_.size() + 1);
    if (const size_t at = shown.find(".tmp-"); at != shown.npos)
      shown.erase(at + 4, shown.find_first_not_of("0123456789", at + 5) - (at + 4));
    const int number = int(watcher->record.size());
    watcher->record.push_back(std::string(name) + " " + shown);
    if (watcher->call_ < 0 || number < watcher->call_ || number >= watcher->call_ + watcher->times_) return false;
    errno = watcher->error_;
    return true;
  }
  /// How many of these bytes the call that was let through last may move.
  static size_t share(size_t bytes) {
    const bool shortened = watcher && std::this_thread::get_id() == watched_thread && watcher->shorten_ >= 0 &&
                           int(watcher->record.size()) == watcher->shorten_ + 1;
    return shortened ? std::max<size_t>(bytes / 2, 1) : bytes;
  }
};

}  // namespace libtrain::test

using libtrain::test::CallGate;

extern "C" int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  static const auto real = libtrain::test::next<int (*)(const char*, int, ...)>("open");
  return CallGate::fails("open", path) ? -1 : real(path, flags, mode);
}

extern "C" ssize_t read(int file, void* bytes, size_t size) {
  static const auto real = libtrain::test::next<ssize_t (*)(int, void*, size_t)>("read");
  if (libtrain::test::watcher && CallGate::fails("read", libtrain::test::path_behind(file))) return -1;
  return real(file, bytes, CallGate::share(size));
}

extern "C" ssize_t write(int file, const void* bytes, size_t size) {
  static const auto real = libtrain::test::next<ssize_t (*)(int, const void*, size_t)>("write");
  if (libtrain::test::watcher && CallGate::fails("write", libtrain::test::path_behind(file))) return -1;
  return real(file, bytes, CallGate::share(size));
}

extern "C" int fsync(int file) {
  static const auto real = libtrain::test::next<int (*)(int)>("fsync");
  if (libtrain::test::watcher && CallGate::fails("fsync", libtrain::test::path_behind(file))) return -1;
  return real(file);
}

/// As Linux does, it closes the file also when it reports a failure.
extern "C" int close(int file) {
  static const auto real = libtrain::test::next<int (*)(int)>("close");
  const bool fails = libtrain::test::watcher && CallGate::fails("close", libtrain::test::path_behind(file));
  const int error = errno;
  const int result = real(file);
  if (!fails) return result;
  errno = error;
  return -1;
}

extern "C" int mkdir(const char* path, mode_t mode) noexcept {
  static const auto real = libtrain::test::next<int (*)(const char*, mode_t)>("mkdir");
  return CallGate::fails("mkdir", path) ? -1 : real(path, mode);
}

extern "C" int rename(const char* from, const char* to) noexcept {
  static const auto real = libtrain::test::next<int (*)(const char*, const char*)>("rename");
  return CallGate::fails("rename", to) ? -1 : real(from, to);
}

extern "C" int unlink(const char* path) noexcept {
  static const auto real = libtrain::test::next<int (*)(const char*)>("unlink");
  return CallGate::fails("unlink", path) ? -1 : real(path);
}

extern "C" int rmdir(const char* path) noexcept {
  static const auto real = libtrain::test::next<int (*)(const char*)>("rmdir");
  return CallGate::fails("rmdir", path) ? -1 : real(path);
}
