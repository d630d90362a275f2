/// The file system calls of this program, below one folder: recorded, and any of them made to fail, to be interrupted, or to do half of its work.
///
/// Definitions of open(), read(), write() and so on in the test program come before those of the C library.
#pragma once
#include <string>
#include <vector>

namespace libtrain::test {

/// Watches calls for its lifetime; there is one at a time. Calls of other threads and to other paths pass.
class SystemCalls {
 public:
  explicit SystemCalls(std::string folder);
  ~SystemCalls();
  SystemCalls(const SystemCalls&) = delete;

  /// Call number `call`, counted from 0 over all that follow, fails with this errno, so many times in a row; -1: none does. Clears the record.
  void fail_at(int call, int error, int times = 1);
  /// Call number `call`, if it is a read or a write, does half of what is asked.
  void shorten_at(int call);

  /// "write run/weights.safetensors", in order, repetitions included.
  std::vector<std::string> record;

 private:
  friend struct CallGate;
  std::string folder_;
  int call_ = -1, error_ = 0, times_ = 0, shorten_ = -1;
};

}  // namespace libtrain::test
