#include "libtrain/io/manifest.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "libtrain/io/checkpoint_folder.h"
#include "libtrain/io/file.h"
#include "libtrain/io/seal.h"

namespace libtrain {
namespace {

constexpr int64_t kLargestManifest = 64 << 20;
constexpr int kDeepestManifest = 32;
constexpr uint64_t kLargestCount = uint64_t(1) << 53;

/// What exact_text() was made of, whatever the program's locale is.
std::optional<double> exact_number(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.starts_with("0x")) text.remove_prefix(2);
  double value;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::hex);
  if (text.starts_with('-') || error != std::errc() || end != text.data() + text.size()) return {};
  return negative ? -value : value;
}

}  // namespace

std::string exact_text(double value) { return format_message("{:a}", value); }

Manifest::Manifest(const std::string& path) : path_(path + "/" + kManifestFile) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path_, ignored))
    throw CheckpointError(
        format_message("[{}] is missing; {} is no checkpoint: name a folder that has one", path_, path));
  bytes_ = read_file(path_, kLargestManifest);
  check_json(all(), kDeepestManifest, {path_, "manifest"});
  if (!at("format").is_text(kManifestFormat))
    refuse("format", std::string("'") + kManifestFormat + "', got " + at("format").shown());
  if (const int64_t version = count("version"); version != kManifestVersion)
    refuse("version", format_message("{}, got {}: written by another version of libtrain", kManifestVersion, version));
  if (!is_sealed(all()))
    throw CheckpointError(format_message(
        "[{}] is damaged or was edited: its hash differs from its last line; copy it again, or use an older checkpoint",
        path_));
}

JsonView Manifest::at(const std::string& field) const {
  const auto [value, missing] = look_up(field);
  if (missing) refuse(field, "it to be there");
  return value;
}

uint64_t Manifest::word(const std::string& field) const {
  const auto value = at(field).whole();
  if (!value) refuse(field, "a whole number from 0 to 2^64 - 1, got " + at(field).shown());
  return *value;
}

int64_t Manifest::count(const std::string& field) const {
  const auto value = at(field).whole();
  if (!value || *value > kLargestCount) refuse(field, "a whole number from 0 to 2^53, got " + at(field).shown());
  return int64_t(*value);
}

std::string Manifest::text(const std::string& field) const {
  if (!at(field).is_text()) refuse(field, "a text, got " + at(field).shown());
  return at(field).text();
}

double Manifest::exact(const std::string& field) const {
  const auto value = exact_number(text(field));
  if (!value) refuse(field, "a number in hexadecimal, got " + at(field).shown());
  return *value;
}

void Manifest::refuse(const std::string& field, const std::string& expected) const {
  throw CheckpointError(format_message(
      "[{}] field '{}': expected {} (byte {} of the file); copy the checkpoint again, or use an older one", path_,
      field, expected, look_up(field).value.at()));
}

std::string_view Manifest::all() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

Manifest::Found Manifest::look_up(std::string_view field) const {
  JsonView value(all());
  for (size_t begin = 0; begin <= field.size();) {
    const size_t end = std::min(field.find('/', begin), field.size());
    const auto member = value.find(field.substr(begin, end - begin));
    if (!member) return {value, true};
    value = *member;
    begin = end + 1;
  }
  return {value, false};
}

}  // namespace libtrain
