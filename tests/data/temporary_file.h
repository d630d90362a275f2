/// A file with given bytes for the time of one test, whole files at a time, and the message an expression throws.
#pragma once
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace libtrain::test {

/// Lives in a folder of its own; removed with the object. In memory where there is a file system for that: some tests write ten thousands of
/// files, and flushing to a disk proves nothing here.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view bytes) {
    const std::string above =
        access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path().string();
    std::string folder = above + "/libtrain-test-XXXXXX";
    if (!mkdtemp(folder.data())) throw std::runtime_error("cannot make " + folder);
    folder_ = folder;
    std::ofstream(path(), std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ + "/file.tsv"; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

/// The bytes of a file.
inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
/// Writes a file of these bytes.
inline void spill(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// The message of the `Exception` that `call` throws; "no exception" when it throws none. Others pass through.
template <class Exception> std::string message_of(auto&& call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  }
  return "no exception";
}

}  // namespace libtrain::test
