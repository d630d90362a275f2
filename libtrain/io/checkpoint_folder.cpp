#include "libtrain/io/checkpoint_folder.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <optional>

namespace libtrain {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-", kStaging = ".tmp-";

std::optional<int64_t> number(std::string_view digits) {
  if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != digits.npos) return {};
  return std::stoll(std::string(digits));
}

std::optional<int64_t> steps_of(std::string_view name) {
  return name.starts_with(kPrefix) ? number(name.substr(kPrefix.size())) : std::nullopt;
}

/// The process of a name like step-00000012.tmp-4711, latest.tmp-4711 or manifest.json.tmp-4711.
std::optional<int64_t> writer_of(std::string_view name) {
  const size_t at = name.rfind(kStaging);
  if (at == name.npos) return {};
  const std::string_view written = name.substr(0, at);
  if (!steps_of(written) && written != kLatestFile && written != kManifestFile) return {};
  return number(name.substr(at + kStaging.size()));
}

bool is_gone(int64_t process) {
  return process > 0 && process <= std::numeric_limits<pid_t>::max() && process != getpid() &&
         kill(pid_t(process), 0) < 0 && errno == ESRCH;
}

struct StepFolder {
  int64_t steps;
  std::string path;
  bool operator<(const StepFolder& other) const { return steps < other.steps; }
};

template <class Use> void for_entries(const std::string& folder, const Use& use) {
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) use(at->path());
}

std::vector<StepFolder> step_folders(const std::string& folder) {
  std::vector<StepFolder> found;
  for_entries(folder, [&](const fs::path& path) {
    if (const auto steps = steps_of(path.filename().native())) found.push_back({*steps, path});
  });
  std::ranges::sort(found, {}, &StepFolder::steps);
  return found;
}

bool is_complete(const StepFolder& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder.path + "/" + kManifestFile, ignored);
}

/// The manifest first: from then on it is no checkpoint.
void remove_checkpoint_files(FileSystem& files, const std::string& path) {
  for (const char* name : kCheckpointFiles)
    if (const std::string file = path + "/" + name; fs::exists(file)) files.remove_file(file);
  if (fs::is_empty(path)) files.remove_directory(path);
}

}  // namespace

std::string checkpoint_path(const std::string& folder, int64_t steps) {
  return format_message("{}/{}{:08}", folder, kPrefix, steps);
}

std::vector<std::string> complete_checkpoints(const std::string& folder) {
  std::vector<std::string> paths;
  for (const StepFolder& step : step_folders(folder))
    if (is_complete(step)) paths.push_back(step.path);
  return paths;
}

void remove_old_checkpoints(FileSystem& files, const std::string& folder, int64_t keep,
                            const std::vector<std::string>& spared) {
  const auto complete = complete_checkpoints(folder);
  if (int64_t(complete.size()) < keep) return;
  const std::string& oldest_kept = complete[complete.size() - size_t(keep)];
  for (const StepFolder& step : step_folders(folder)) {
    if (step.path == oldest_kept) return;
    if (std::ranges::find(spared, step.path) == spared.end()) remove_checkpoint_files(files, step.path);
  }
}

void remove_abandoned_checkpoints(FileSystem& files, const std::string& folder) {
  const auto remove_abandoned = [&](const fs::path& path) {
    const auto writer = writer_of(path.filename().native());
    if (!writer || !is_gone(*writer)) return;
    try {
      if (fs::is_directory(path))
        remove_checkpoint_files(files, path);
      else
        files.remove_file(path);
    } catch (const std::exception&) {  // another user's, say
    }
  };
  for_entries(folder, remove_abandoned);
  for (const StepFolder& step : step_folders(folder)) for_entries(step.path, remove_abandoned);
}

}  // namespace libtrain
