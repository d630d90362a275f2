#include "io/disk_after_crash.h"

namespace libtrain::test {
namespace {

class RecordedFile : public OutputFile {
 public:
  RecordedFile(std::vector<DiskOperation>& record, const std::string& path)
      : record_(record), path_(path), real_(real_file_system().create_file(path)) {}
  void write(std::span<const std::byte> bytes) override {
    real_->write(bytes);
    record_.push_back({DiskOperation::kWrite, path_, "", std::string((const char*)bytes.data(), bytes.size())});
  }
  void sync() override {
    real_->sync();
    record_.push_back({DiskOperation::kSync, path_});
  }
  void close() override { real_->close(); }

 private:
  std::vector<DiskOperation>& record_;
  std::string path_;
  std::unique_ptr<OutputFile> real_;
};

struct Node;
using Names = std::map<std::string, Node*>;

/// One change of a folder's names that reaches the disk whole or not at all: empty nodes are names that go.
using Change = std::vector<std::pair<std::string, Node*>>;

struct Node {
  bool folder = false;
  std::string bytes, safe_bytes;  // of a file: written, and on the disk for certain
  Names names, safe_names;        // of a folder: likewise
  std::vector<Change> unsafe;     // changes since
};

void apply(Names& names, const Change& change) {
  for (const auto& [name, node] : change)
    if (node)
      names[name] = node;
    else
      names.erase(name);
}

class Disk {
 public:
  explicit Disk(std::string root) : root_(std::move(root)) { top_.folder = true; }

  void run(const DiskOperation& operation) {
    const auto [folder, name] = place(operation.path);
    switch (operation.kind) {
      case DiskOperation::kMake:
      case DiskOperation::kCreate:
        return change(*folder, {{name, make(operation.kind == DiskOperation::kMake)}});
      case DiskOperation::kWrite:
        folder->names.at(name)->bytes += operation.bytes;
        return;
      case DiskOperation::kSync:
        folder->names.at(name)->safe_bytes = folder->names.at(name)->bytes;
        return;
      case DiskOperation::kSyncFolder:
        return flush(operation.path == root_ ? top_ : *folder->names.at(name));
      case DiskOperation::kRename:
        return change(*folder, {{name, nullptr}, {place(operation.to).second, folder->names.at(name)}});
      case DiskOperation::kRemove:
        return change(*folder, {{name, nullptr}});
      case DiskOperation::kNothing:
        return;
    }
  }

  void for_states(const std::function<void(const DiskState&)>& visit) const {
    for_contents(top_, root_, {}, [&](const DiskState& state) { visit(state); });
  }

 private:
  using Visit = std::function<void(const DiskState&)>;

  Node* make(bool folder) {
    nodes_.push_back(std::make_unique<Node>());
    nodes_.back()->folder = folder;
    return nodes_.back().get();
  }
  std::pair<Node*, std::string> place(const std::string& path) {
    Node* folder = &top_;
    std::string rest = path.size() > root_.size() ? path.substr(root_.size() + 1) : "";
    for (size_t slash; (slash = rest.find('/')) != rest.npos; rest = rest.substr(slash + 1))
      folder = folder->names.at(rest.substr(0, slash));
    return {folder, rest};
  }
  static void change(Node& folder, const Change& what) {
    apply(folder.names, what);
    folder.unsafe.push_back(what);
  }
  static void flush(Node& folder) {
    folder.safe_names = folder.names;
    folder.unsafe.clear();
  }

  /// `state` with all that `folder` may contain.
  static void for_contents(const Node& folder, const std::string& path, const DiskState& state, const Visit& visit) {
    for (size_t chosen = 0; chosen < size_t(1) << folder.unsafe.size(); ++chosen) {
      Names names = folder.safe_names;
      for (size_t i = 0; i < folder.unsafe.size(); ++i)
        if (chosen >> i & 1) apply(names, folder.unsafe[i]);
      for_entries(names, names.begin(), path, state, visit);
    }
  }
  static void for_entries(const Names& names, Names::const_iterator at, const std::string& path, const DiskState& state,
                          const Visit& visit) {
    if (at == names.end()) return visit(state);
    const auto& [name, node] = *at;
    const std::string here = path + "/" + name;
    const Visit rest = [&, next = std::next(at)](const DiskState& with) {
      for_entries(names, next, path, with, visit);
    };
    DiskState with = state;
    if (node->folder) {
      with[here] = std::nullopt;
      return for_contents(*node, here, with, rest);
    }
    for (const std::string& bytes : contents_of(*node)) {
      with[here] = bytes;
      rest(with);
    }
  }
  static std::vector<std::string> contents_of(const Node& file) {
    if (file.bytes == file.safe_bytes) return {file.bytes};
    const std::string half = file.bytes.substr(0, file.bytes.size() / 2);
    return {file.safe_bytes, half, file.bytes, std::string(file.bytes.size(), '\0')};
  }

  std::string root_;
  Node top_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

}  // namespace

std::string DiskOperation::str() const {
  constexpr const char* kNames[] = {"make", "create", "write", "sync", "sync folder", "rename", "remove", "nothing"};
  return std::string(kNames[kind]) + " " + path + (to.empty() ? "" : " to " + to);
}

bool RecordedFiles::make_directory(const std::string& path) {
  const bool made = real_file_system().make_directory(path);
  if (made) record.push_back({DiskOperation::kMake, path});
  return made;
}
std::unique_ptr<OutputFile> RecordedFiles::create_file(const std::string& path) {
  record.push_back({DiskOperation::kCreate, path});
  return std::make_unique<RecordedFile>(record, path);
}
void RecordedFiles::sync_directory(const std::string& path) {
  real_file_system().sync_directory(path);
  record.push_back({DiskOperation::kSyncFolder, path});
}
void RecordedFiles::rename(const std::string& from, const std::string& to) {
  real_file_system().rename(from, to);
  record.push_back({DiskOperation::kRename, from, to});
}
void RecordedFiles::remove_file(const std::string& path) {
  real_file_system().remove_file(path);
  record.push_back({DiskOperation::kRemove, path});
}
void RecordedFiles::remove_directory(const std::string& path) {
  real_file_system().remove_directory(path);
  record.push_back({DiskOperation::kRemove, path});
}

void for_states_after(std::span<const DiskOperation> operations, const std::string& root,
                      const std::function<void(const DiskState&)>& visit) {
  Disk disk(root);
  for (const DiskOperation& operation : operations) disk.run(operation);
  disk.for_states(visit);
}

}  // namespace libtrain::test
