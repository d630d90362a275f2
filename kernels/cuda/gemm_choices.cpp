#include "kernels/cuda/gemm_choices.h"

#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>

#include "kernels/failure.h"

namespace libtrain::kernels {
namespace {

constexpr std::string_view kTitle = "libtrain gemm choices 1\n";

/// FNV-1a, 64 bits (Fowler, Noll, Vo): for damage and file names, not for secrets.
uint64_t hash_of(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ uint8_t(c)) * 0x100000001b3;
  return hash;
}

std::string hex(uint64_t value) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016" PRIx64, value);
  return digits;
}

std::string last_line(std::string_view body) { return "end " + hex(hash_of(body)) + "\n"; }

std::string read_whole(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return std::move(text).str();
}

/// "k0 … k15 a0 … a7": the key in decimal, the algorithm in hexadecimal digits.
std::optional<std::pair<GemmChoices::Key, GemmChoices::Algorithm>> parse_line(const std::string& line) {
  std::istringstream words(line);
  std::pair<GemmChoices::Key, GemmChoices::Algorithm> choice;
  for (int64_t& part : choice.first) words >> part;
  words >> std::hex;
  for (uint64_t& part : choice.second) words >> part;
  std::string more;
  if (words.fail() || words >> more) return std::nullopt;
  return choice;
}

/// All choices of a file, or none when one byte of it is not as it was written.
std::map<GemmChoices::Key, GemmChoices::Algorithm> parse(const std::string& text, const std::string& identity) {
  const std::string head = std::string(kTitle) + identity + "\n";
  const size_t end = text.rfind("end ");
  if (!text.starts_with(head) || end == std::string::npos || end < head.size()) return {};
  const std::string body = text.substr(0, end);
  if (text.substr(end) != last_line(body)) return {};
  std::map<GemmChoices::Key, GemmChoices::Algorithm> choices;
  std::istringstream lines(body.substr(head.size()));
  for (std::string line; std::getline(lines, line);) {
    const auto choice = parse_line(line);
    if (!choice) return {};
    choices.insert(*choice);
  }
  return choices;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

GemmChoices::GemmChoices(const std::string& folder, std::string identity)
    : path_(folder.empty() ? "" : folder + "/gemm-" + hex(hash_of(identity)) + ".txt"), identity_(std::move(identity)) {
  merge();
}

const GemmChoices::Algorithm* GemmChoices::find(const Key& key) const {
  const auto place = choices_.find(key);
  return place == choices_.end() ? nullptr : &place->second;
}

GemmChoices::Algorithm GemmChoices::keep(const Key& key, const Algorithm& algorithm) {
  merge();
  const Algorithm counts = choices_.try_emplace(key, algorithm).first->second;
  write();
  return counts;
}

/// What this process already uses stays.
void GemmChoices::merge() {
  if (!path_.empty()) choices_.merge(parse(read_whole(path_), identity_));
}

std::string GemmChoices::text() const {
  std::ostringstream body;
  body << kTitle << identity_ << '\n';
  for (const auto& [key, algorithm] : choices_) {
    for (const int64_t part : key) body << part << ' ';
    for (const uint64_t part : algorithm) body << ' ' << hex(part);
    body << '\n';
  }
  return body.str() + last_line(body.str());
}

/// Under another name first: a reader finds the old file or the new one. Not synchronised to the disk: a file that a crash has damaged
/// is no file.
void GemmChoices::write() {
  if (path_.empty()) return;
  const std::string draft = path_ + "." + std::to_string(getpid());
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), error);
  std::ofstream file(draft, std::ios::binary | std::ios::trunc);
  file << text();
  file.close();
  failure_ = file.good() ? "" : "cannot write " + draft;
  if (failure_.empty()) {
    std::filesystem::rename(draft, path_, error);
    if (error) failure_ = "cannot rename " + draft + ": " + error.message();
  }
  if (!failure_.empty()) std::filesystem::remove(draft, error);
}

std::string cache_folder() {
  if (const std::string own = variable("LIBTRAIN_CACHE"); !own.empty()) return own;
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache + "/libtrain";
  const std::string home = variable("HOME");
  return home.empty() ? "" : home + "/.cache/libtrain";
}

bool gemm_tuning_asked_for() {
  const std::string value = variable("LIBTRAIN_TUNE_GEMM");
  if (value.empty() || value == "0") return false;
  if (value != "1") throw Failure("[gemm] LIBTRAIN_TUNE_GEMM must be 0 or 1, got '" + value + "'");
  return true;
}

}  // namespace libtrain::kernels
