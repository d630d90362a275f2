#include "libtrain/io/file.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "catch.h"
#include "data/temporary_file.h"
#include "io/faulty_files.h"
#include "io/system_calls.h"
#include "libtrain/io/checkpoint_folder.h"

namespace libtrain::testing {
namespace {

using test::FaultyFiles;
using test::message_of;
using test::slurp;
using test::TemporaryFile;
namespace fs = std::filesystem;
using Record = std::vector<std::string>;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

Record names_in(const std::string& folder) {
  Record names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

}  // namespace

TEST_CASE("files: a replaced file is flushed, renamed, and its folder flushed, by the system's own calls", "[io]") {
  const TemporaryFile old("old");
  test::SystemCalls calls(old.folder());
  write_file_atomically(real_file_system(), old.path(), bytes_of("new"));
  CHECK(calls.record == Record{"open file.tsv.tmp", "write file.tsv.tmp", "fsync file.tsv.tmp", "close file.tsv.tmp",
                               "rename file.tsv", "open .", "fsync .", "close ."});
  CHECK(slurp(old.path()) == "new");
  CHECK(names_in(old.folder()) == Record{"file.tsv"});
}

TEST_CASE("files: replacing a file fails at any operation and leaves the old one", "[io]") {
  const Record expected{"create file.tsv.tmp",
                        "write file.tsv.tmp",
                        "sync file.tsv.tmp",
                        "close file.tsv.tmp",
                        "rename file.tsv.tmp to file.tsv",
                        "sync ."};
  for (int at = 0; at <= int(expected.size()); ++at) {
    const TemporaryFile old("old");
    FaultyFiles files(old.folder());
    files.fail_at(at);
    const std::string message =
        message_of<IoError>([&] { write_file_atomically(files, old.path(), bytes_of("new!")); });
    INFO("operation " << at << ": " << message);
    if (at == int(expected.size())) {
      CHECK(message == "no exception");
      CHECK(files.record == expected);
    } else {
      CHECK(message.find("Input/output error; the disk or the connection to it fails") != std::string::npos);
      CHECK(slurp(old.path()) == (at < 5 ? "old" : "new!"));
    }
    CHECK(names_in(old.folder()) == Record{"file.tsv"});
  }
}

TEST_CASE("files: a staged folder appears whole, in this order of operations", "[io]") {
  const TemporaryFile place("");
  FaultyFiles files(place.folder());
  {
    StagedDirectory staged(files, place.folder() + "/new/run/step");
    staged.write("a", bytes_of("A"));
    staged.write("b", bytes_of("B"));
    CHECK_FALSE(fs::exists(place.folder() + "/new/run/step"));
    staged.commit();
  }
  CHECK(files.record == Record{"make new", "sync .", "make new/run", "sync new", "make new/run/step.tmp",
                               "create new/run/step.tmp/a", "write new/run/step.tmp/a", "sync new/run/step.tmp/a",
                               "close new/run/step.tmp/a", "create new/run/step.tmp/b", "write new/run/step.tmp/b",
                               "sync new/run/step.tmp/b", "close new/run/step.tmp/b", "sync new/run/step.tmp",
                               "rename new/run/step.tmp to new/run/step", "sync new/run"});
  CHECK(slurp(place.folder() + "/new/run/step/b") == "B");
  CHECK(names_in(place.folder() + "/new/run") == Record{"step"});
}

TEST_CASE("files: a staged folder that is not committed goes, and nothing else", "[io]") {
  const TemporaryFile place("");
  const std::string path = place.folder() + "/step";
  {
    StagedDirectory staged(real_file_system(), path);
    staged.write("a", bytes_of("A"));
    std::ofstream(path + ".tmp-" + std::to_string(getpid()) + "/note") << "a stranger's";
  }
  CHECK(names_in(place.folder()) == Record{"file.tsv", "step.tmp-" + std::to_string(getpid())});
  fs::remove_all(path + ".tmp-" + std::to_string(getpid()));
  { StagedDirectory staged(real_file_system(), path); }
  CHECK(names_in(place.folder()) == Record{"file.tsv"});

  fs::create_directory(path);
  std::ofstream(path + "/note") << "a stranger's";
  {
    StagedDirectory staged(real_file_system(), path);
    staged.write("a", bytes_of("A"));
    CHECK(message_of<IoError>([&] { staged.commit(); }) ==
          "[" + path +
              "] cannot give the name to what was written: Directory not empty; something else has that name: move it "
              "away or choose another place");
  }
  CHECK(names_in(place.folder()) == Record{"file.tsv", "step"});
  CHECK(names_in(path) == Record{"note"});
}

TEST_CASE("files: what the system refuses is named with path, reason and remedy", "[io]") {
  const TemporaryFile file("x");
  FileSystem& files = real_file_system();
  const auto refused = [&](auto call) {
    std::string message = message_of<IoError>(call);
    for (size_t at; (at = message.find(file.folder())) != message.npos;) message.replace(at, file.folder().size(), "…");
    return message;
  };
  for (const char* below : {"", "/run", "/deep/run"})
    CHECK(refused([&] { make_directories(files, file.path() + below); }) ==
          "[…/file.tsv] cannot make the folder: File exists; something else has that name: move it away or choose "
          "another place");
  CHECK(refused([&] { write_file(files, file.path() + "/x", {}); }) ==
        "[…/file.tsv/x] cannot create: Not a directory; a part of the path is a file: choose another place");
  CHECK(refused([&] { write_file(files, file.folder() + "/none/x", {}); }) ==
        "[…/none/x] cannot create: No such file or directory; check the path");
  CHECK(refused([&] {
          write_file(files, "/dev/full", bytes_of("1234567"));
        }).find("[/dev/full] cannot write: No space left on device; 7 bytes to write, ") == 0);
  CHECK(refused([&] {
          throw_io_error("write", file.folder() + "/none/deeper/x", ENOSPC, 12);
        }).find("; 12 bytes to write, ") != std::string::npos);
  CHECK(refused([&] { throw_io_error("create", "x", EROFS); }) ==
        "[x] cannot create: Read-only file system; check its permissions and those of the folder above, or choose "
        "another place");
  CHECK(refused([&] { read_file(file.path(), 0); }) ==
        "[…/file.tsv] has 1 bytes, expected at most 0; is it the right file?");
  CHECK(refused([&] { files.remove_file(file.folder() + "/none"); }).find("cannot remove: No such file") !=
        std::string::npos);
  CHECK(refused([&] { files.remove_directory(file.folder()); }).find("cannot remove the folder: Directory not empty") !=
        std::string::npos);
  CHECK(refused([&] { files.sync_directory(file.path()); }).find("cannot open the folder: Not a directory") !=
        std::string::npos);
}

namespace {

/// While it lives, the process gets no more address space than this.
struct AddressSpace {
  rlimit before;
  explicit AddressSpace(int64_t bytes) {
    REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
    const rlimit limit{std::min(rlim_t(bytes), before.rlim_max), before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
  }
  ~AddressSpace() { setrlimit(RLIMIT_AS, &before); }
};

}  // namespace

TEST_CASE("files: a pipe without a writer does not hang, and a file beyond memory is refused before it is read",
          "[io]") {
  const TemporaryFile file("");
  const std::string pipe = file.folder() + "/pipe", sparse = file.folder() + "/sparse";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(message_of<IoError>([&] { read_file(pipe, 10); }) ==
        "[" + pipe + "] is no regular file; name a file, not a pipe or a device");
  std::ofstream(sparse).close();
  if (truncate(sparse.c_str(), int64_t(1) << 43) != 0) {
    WARN("the folder's file system has no files of 8 TiB: not tested");
    return;
  }
  const AddressSpace room(int64_t(1) << 42);  // or a host that gives out more memory than it has gave this, too
  CHECK(message_of<OutOfMemory>([&] { read_file(sparse, int64_t(1) << 50); }) ==
        "[" + sparse + "] has 8796093022208 bytes, more than there is memory for; is it the right file?");
}

namespace {

void plant(const std::string& folder, const Record& names) {
  fs::create_directories(folder);
  for (const std::string& name : names) std::ofstream(folder + "/" + name) << "x";
}

const Record kAll{kManifestFile, kOptimizerFile, kWeightsFile};

}  // namespace

TEST_CASE("checkpoint folder: the oldest go, remnants with them, and nothing that is not a checkpoint's", "[io]") {
  const TemporaryFile place("");
  const std::string& folder = place.folder();
  for (const std::string step : {"00000001", "00000002", "00000030", "00000004"}) plant(folder + "/step-" + step, kAll);
  plant(folder + "/step-00000003", {kWeightsFile});                  // its removal failed halfway
  plant(folder + "/step-00000099", {kWeightsFile});                  // newer than what is kept: left alone
  plant(folder + "/step-00000000", {"note"});                        // a stranger's
  plant(folder + "/step-2", {kManifestFile, kWeightsFile, "note"});  // with a file that is not ours
  plant(folder + "/step-1x", kAll);
  CHECK(complete_checkpoints(folder).size() == 5);
  CHECK(complete_checkpoints(folder).back() == folder + "/step-00000030");
  CHECK(complete_checkpoints(folder + "/none").empty());
  remove_old_checkpoints(real_file_system(), folder, 2, {folder + "/step-00000001"});
  CHECK(names_in(folder) == Record{"file.tsv", "step-00000000", "step-00000001", "step-00000004", "step-00000030",
                                   "step-00000099", "step-1x", "step-2"});
  CHECK(names_in(folder + "/step-2") == Record{"note"});
  CHECK(names_in(folder + "/step-00000001") == kAll);
}

TEST_CASE("checkpoint folder: what dead processes left goes, what living ones write stays", "[io]") {
  const TemporaryFile place("");
  const std::string& folder = place.folder();
  const pid_t dead = [] {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
    return child;
  }();
  const std::string gone = ".tmp-" + std::to_string(dead), alive = ".tmp-" + std::to_string(getppid());
  plant(folder + "/step-00000007" + gone, {kWeightsFile});
  plant(folder + "/step-00000008" + alive, {kWeightsFile});
  plant(folder + "/step-00000009" + gone, {kWeightsFile, "note"});
  plant(folder + "/other" + gone, {kWeightsFile});
  plant(folder, {"latest" + gone, "latest" + alive, "later" + gone});
  plant(folder + "/step-00000009.tmp-99999999999999", {kWeightsFile});
  plant(folder + "/step-00000006", {kManifestFile, kManifestFile + gone, kManifestFile + alive, kWeightsFile + gone});
  remove_abandoned_checkpoints(real_file_system(), folder);
  const Record left = names_in(folder);
  CHECK(left == Record{"file.tsv", "later" + gone, "latest" + alive, "other" + gone, "step-00000006",
                       "step-00000008" + alive, "step-00000009" + gone, "step-00000009.tmp-99999999999999"});
  CHECK(names_in(folder + "/step-00000009" + gone) == Record{"note"});
  CHECK(names_in(folder + "/step-00000006") == Record{kManifestFile, kManifestFile + alive, kWeightsFile + gone});
}

}  // namespace libtrain::testing
