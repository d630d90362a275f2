/// What may be on a disk after a power cut: file operations are recorded, and every state that they allow is enumerated.
///
/// The model is what POSIX promises and no more. The bytes of a file are there for certain once it was flushed; before that none, half, all or
/// as many zeros may be. Names in a folder are there for certain once the folder was flushed; before that any of the changes since may have
/// reached the disk, and others not, in any combination. A rename is one change.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libtrain/io/file.h"

namespace libtrain::test {

struct DiskOperation {
  enum Kind { kMake, kCreate, kWrite, kSync, kSyncFolder, kRename, kRemove, kNothing } kind;
  std::string path, to = {};
  std::string bytes = {};
  std::string str() const;
};

/// Does every operation on the real disk, and keeps a record.
class RecordedFiles : public FileSystem {
 public:
  std::vector<DiskOperation> record;

  bool make_directory(const std::string& path) override;
  std::unique_ptr<OutputFile> create_file(const std::string& path) override;
  void sync_directory(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove_file(const std::string& path) override;
  void remove_directory(const std::string& path) override;
};

/// Paths and the contents of files; a folder has none.
using DiskState = std::map<std::string, std::optional<std::string>>;

/// Calls visit(state) for every state that a disk may have which lost its power after all of `operations`, and was as empty as a folder `root`
/// can be before them. States may come more than once.
void for_states_after(std::span<const DiskOperation> operations, const std::string& root,
                      const std::function<void(const DiskState&)>& visit);

}  // namespace libtrain::test
