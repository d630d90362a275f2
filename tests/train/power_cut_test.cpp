#include <filesystem>
#include <fstream>
#include <set>

#include "catch.h"
#include "data/temporary_file.h"
#include "io/disk_after_crash.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {
namespace {

using test::DiskOperation;
using test::DiskState;
using test::TemporaryFile;
namespace fs = std::filesystem;

constexpr int kSaves = 3;

/// Three saves to one folder, of which one checkpoint is kept: what was done, and how much of it when each save returned.
struct Recording {
  TemporaryFile place{""};
  std::string root = place.folder() + "/disk";
  std::vector<DiskOperation> operations;
  std::vector<size_t> returned;

  Recording() {
    fs::create_directory(root);
    test::RecordedFiles files;
    for (int save = 1; save <= kSaves; ++save) {
      Parameters parameters;
      parameters.add("w", {3}, init::constant(save));
      save_checkpoint(root + "/runs/one", parameters, {.steps = save}, "{}", {.keep = 1, .files = files});
      returned.push_back(files.record.size());
    }
    operations = files.record;
  }
};

void put_on_disk(const DiskState& state, const std::string& root) {
  fs::remove_all(root);
  fs::create_directory(root);
  for (const auto& [path, bytes] : state)
    if (bytes)
      std::ofstream(path, std::ios::binary) << *bytes;
    else
      fs::create_directory(path);
}

/// The save whose checkpoint loads, whole; 0: none.
int loaded_save(const std::string& folder) {
  try {
    Parameters parameters;
    const Tensor weight = parameters.add("w", {3}, init::constant(0));
    const auto state = load_checkpoint(newest_checkpoint(folder, {}), parameters).state;
    return weight.to_vector<float>() == std::vector<float>(3, float(state.steps)) ? int(state.steps) : -1;
  } catch (const Error&) {
    return 0;
  }
}

struct Survey {
  int64_t states = 0, different = 0, lost = 0;
};

/// Cuts the power after each operation, if asked until one state is lost. A state is lost in which nothing loads that is as new as the last save that had returned.
Survey survey(const Recording& recording, const std::vector<DiskOperation>& operations, bool until_lost = false) {
  Survey result;
  std::set<std::pair<int, DiskState>> seen;
  for (size_t done = 0; done <= operations.size(); ++done) {
    int safe = 0;
    for (const size_t end : recording.returned) safe += done >= end;
    test::for_states_after(std::span(operations).first(done), recording.root, [&](const DiskState& state) {
      ++result.states;
      if (until_lost && result.lost > 0) return;
      if (!seen.emplace(safe, state).second) return;
      ++result.different;
      put_on_disk(state, recording.root);
      const int found = loaded_save(recording.root + "/runs/one");
      result.lost += found < safe || found < 0;
    });
  }
  return result;
}

}  // namespace

TEST_CASE("power cut: whatever reached the disk, the last save that returned loads, or a newer one", "[checkpoint]") {
  const Recording recording;
  const Survey result = survey(recording, recording.operations);
  INFO(result.states << " states, " << result.different << " different");
  CHECK(result.lost == 0);
  CHECK(result.different > 300);
  std::printf("power cut: %ld states, %ld of them different, after %zu operations\n", long(result.states),
              long(result.different), recording.operations.size());
}

TEST_CASE("power cut: without any one of the flushes something is lost", "[checkpoint]") {
  const Recording recording;
  const auto is_flush = [](const DiskOperation& operation) {
    return operation.kind == DiskOperation::kSync || operation.kind == DiskOperation::kSyncFolder;
  };
  int flushes = 0;
  for (size_t i = 0; i < recording.operations.size(); ++i) {
    const DiskOperation left_out = recording.operations[i];
    const bool of_latest = left_out.path.find("latest") != left_out.path.npos ||
                           (i > 0 && recording.operations[i - 1].to.ends_with("latest"));
    if (!is_flush(left_out) || of_latest) continue;  // nothing that loads depends on `latest`
    ++flushes;
    INFO("left out operation " << i << ": " << left_out.str());
    auto operations = recording.operations;
    operations[i].kind = DiskOperation::kNothing;
    // The folder is flushed again when `latest` has its name: what that one would mend is no excuse.
    for (size_t j = i; j < operations.size() && j < i + 6; ++j)
      if (operations[j].kind == DiskOperation::kSyncFolder && operations[j].path == left_out.path)
        operations[j].kind = DiskOperation::kNothing;
    CHECK(survey(recording, operations, true).lost > 0);
  }
  CHECK(flushes >= 3 * 5);
}

}  // namespace libtrain::testing
