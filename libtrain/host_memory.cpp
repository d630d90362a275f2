#include "libtrain/host_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace libtrain::detail {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

/// Names of the files of a version of control groups, and of the line of memory.stat that counts cache which can be dropped.
struct Version {
  const char *mount, *limit, *usage, *cache;
};
constexpr Version kVersion1{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                            "total_inactive_file"};
constexpr Version kVersion2{"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};

/// The number that a file consists of; none for a missing file and for "max".
std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t number;
  return file >> number ? std::optional(number) : std::nullopt;
}

/// The number behind `name` in a file of "name number" lines, if there is such a line.
std::optional<int64_t> number_after(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    int64_t number;
    if (words >> word >> number && word == name) return number;
  }
  return std::nullopt;
}

/// What the limit of one group leaves.
int64_t left_in(const std::string& folder, const Version& version) {
  const auto limit = number_in(folder + "/" + version.limit), usage = number_in(folder + "/" + version.usage);
  if (!limit || !usage) return kNoLimit;
  const int64_t cache = number_after(folder + "/memory.stat", version.cache).value_or(0);
  return std::max<int64_t>(*limit - std::max<int64_t>(*usage - cache, 0), 0);
}

/// In the group `path` and all above it. Of a path that is not mounted here, as in a container, those parts count that are.
int64_t left_in_groups(const std::string& root, std::string path, const Version& version) {
  int64_t left = left_in(root + version.mount, version);
  for (; path.size() > 1; path.resize(path.rfind('/')))
    left = std::min(left, left_in(root + version.mount + path, version));
  return left;
}

/// By the lines "number:controllers:path" of the process.
int64_t left_in_own_groups(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  int64_t left = kNoLimit;
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",",
                      path = line.substr(second + 1);
    if (!path.starts_with('/')) continue;
    if (controllers == ",,") left = std::min(left, left_in_groups(root, path, kVersion2));
    if (controllers.find(",memory,") != controllers.npos) left = std::min(left, left_in_groups(root, path, kVersion1));
  }
  return left;
}

}  // namespace

int64_t available_host_memory(const std::string& root) {
  const std::string memory = root + "/proc/meminfo";
  const auto available = number_after(memory, "MemAvailable:");
  const int64_t left = std::min(available ? *available * 1024 : kNoLimit, left_in_own_groups(root));
  return left == kNoLimit ? left : left + number_after(memory, "SwapFree:").value_or(0) * 1024;
}

}  // namespace libtrain::detail
