#include "libtrain/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "libtrain/io/file.h"
#include "libtrain/io/json_check.h"

namespace libtrain {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // the reference implementation's limit
constexpr size_t kMaxEntries = 1'000'000, kMaxName = 4096, kMaxRank = 8;
constexpr int kMaxDepth = 3;
constexpr const char* kMetadata = "__metadata__";

std::optional<int64_t> element_size(const std::string& dtype) {
  static const std::map<std::string, int64_t> sizes{{"F32", 4}, {"F64", 8}, {"BF16", 2},
                                                    {"I32", 4}, {"I64", 8}, {"U8", 1}};
  const auto found = sizes.find(dtype);
  return found == sizes.end() ? std::nullopt : std::optional(found->second);
}

/// Bytes of a tensor, or nothing when the product overflows or a size is negative.
std::optional<int64_t> byte_size(const std::vector<int64_t>& shape, int64_t element) {
  int64_t total = element;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(total, size, &total)) return std::nullopt;
  return total;
}

/// Reads the header and refuses it by name of file and field.
class HeaderReader {
 public:
  explicit HeaderReader(const std::string& label) : label_(label) {}

  [[noreturn]] void refuse(const std::string& field, const std::string& complaint) const {
    throw CheckpointError(format_message("[{}] {}: {}; copy the file again", label_, field, complaint));
  }

  /// The header's text as an object.
  Json parse(std::string_view text) const {
    if (text.empty() || text.front() != '{') refuse("header", "expected it to begin with '{' at byte 8");
    check_json(text, kMaxDepth, {label_, "header", kLengthBytes});
    Json header = Json::parse(text);
    if (header.size() > kMaxEntries)
      refuse("header", format_message("{} tensors, the limit is {}", header.size(), kMaxEntries));
    return header;
  }

  std::map<std::string, std::string> metadata(const Json& json) const {
    if (!json.is_object()) refuse(kMetadata, "expected an object, got " + std::string(json.type_name()));
    std::map<std::string, std::string> result;
    for (const auto& [key, value] : json.items()) {
      if (!value.is_string())
        refuse(kMetadata, "expected texts, got " + std::string(value.type_name()) + " under '" + key + "'");
      result[key] = value.get<std::string>();
    }
    return result;
  }

  /// Dtype, shape and place [begin, end) of one tensor. Whether places fit together is checked for all of them at once.
  std::pair<TensorEntry, std::pair<int64_t, int64_t>> tensor(const std::string& name, const Json& json) const {
    const std::string field = "tensor '" + name.substr(0, 100) + "'";
    if (name.size() > kMaxName)
      refuse(field, format_message("a name of {} bytes, expected at most {}", name.size(), kMaxName));
    if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json.contains("shape") ||
        !json.contains("data_offsets"))
      refuse(field, "expected exactly dtype, shape and data_offsets");
    if (!json["dtype"].is_string() || !element_size(json["dtype"].get<std::string>()))
      refuse(field, "dtype: expected F32, F64, BF16, I32, I64 or U8, got " + shorten(json["dtype"]));
    const std::string dtype = json["dtype"].get<std::string>();
    const auto shape = sizes(field + " shape", json["shape"], kMaxRank);
    const auto place = sizes(field + " data_offsets", json["data_offsets"], 2);
    if (place.size() != 2 || place[0] > place[1])
      refuse(field, "data_offsets: expected [begin, end], got " + shorten(json["data_offsets"]));
    const auto bytes = byte_size(shape, *element_size(dtype));
    if (!bytes || *bytes != place[1] - place[0])
      refuse(field, format_message("{} {} takes {} bytes, data_offsets give {}", dtype, shorten(json["shape"]),
                                   bytes ? std::to_string(*bytes) : "too many", place[1] - place[0]));
    return {{name, dtype, shape, {}}, {place[0], place[1]}};
  }

 private:
  static std::string shorten(const Json& json) {
    const std::string text = json.dump(-1, ' ', true, Json::error_handler_t::replace);
    return text.size() > 60 ? text.substr(0, 60) + "…" : text;
  }

  std::vector<int64_t> sizes(const std::string& field, const Json& json, size_t most) const {
    if (!json.is_array() || json.size() > most)
      refuse(field, format_message("expected at most {} whole numbers, got {}", most, shorten(json)));
    std::vector<int64_t> result;
    for (const Json& value : json) {
      if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max()))
        refuse(field, "expected whole numbers >= 0 below 2^63, got " + shorten(json));
      result.push_back(value.get<int64_t>());
    }
    return result;
  }

  std::string label_;
};

uint64_t header_length(std::span<const std::byte> bytes, const HeaderReader& reader) {
  if (bytes.size() < kLengthBytes)
    reader.refuse("file", format_message("expected at least 8 bytes, got {}", bytes.size()));
  uint64_t length = 0;
  for (uint64_t i = 0; i < kLengthBytes; ++i) length |= uint64_t(bytes[i]) << (8 * i);
  if (length > kMaxHeader)
    reader.refuse("header length", format_message("{} bytes, the limit is {}", length, kMaxHeader));
  if (length > bytes.size() - kLengthBytes)
    reader.refuse("header length", format_message("{} bytes, but only {} follow: the file is cut short", length,
                                                  bytes.size() - kLengthBytes));
  return length;
}

/// Refuses a hole, an overlap, and data that is missing or left over.
void check_cover(std::vector<std::pair<std::pair<int64_t, int64_t>, std::string>> places, int64_t data,
                 const HeaderReader& reader) {
  std::ranges::sort(places);
  int64_t at = 0;
  for (const auto& [place, name] : places) {
    if (place.first != at)
      reader.refuse("tensor '" + name.substr(0, 100) + "'",
                    format_message("begins at byte {} of the data, expected {}: {}", place.first, at,
                                   place.first < at ? "an overlap" : "a hole"));
    at = place.second;
  }
  if (at != data)
    reader.refuse("data", format_message("the tensors take {} bytes, the file has {}{}", at, data,
                                         at > data ? ": it is cut short" : ""));
}

std::string header_text(const std::vector<const TensorEntry*>& entries,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  for (const auto& [key, text] : metadata) header[kMetadata][key] = text;
  int64_t at = 0;
  for (const TensorEntry* entry : entries) {
    const int64_t end = at + int64_t(entry->bytes.size());
    header[entry->name] = {{"dtype", entry->dtype}, {"shape", entry->shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error&) {
    throw InvalidArgument("[write_safetensors] names and metadata must be UTF-8; convert them");
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

void check_entry(const TensorEntry& entry) {
  const auto element = element_size(entry.dtype);
  const auto bytes = element ? byte_size(entry.shape, *element) : std::nullopt;
  LIBTRAIN_CHECK(bytes && *bytes == int64_t(entry.bytes.size()) && entry.name != kMetadata &&
                     entry.name.size() <= kMaxName && entry.shape.size() <= kMaxRank,
                 "[write_safetensors] tensor '{}' of dtype {} does not fit its {} bytes; shape, dtype and bytes must "
                 "agree, in at most 8 dimensions",
                 entry.name, entry.dtype, entry.bytes.size());
}

}  // namespace

std::vector<std::byte> write_safetensors(std::span<const TensorEntry> entries,
                                         const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorEntry*> sorted;
  for (const TensorEntry& entry : entries) {
    check_entry(entry);
    sorted.push_back(&entry);
  }
  std::ranges::sort(sorted, {}, [](const TensorEntry* entry) { return entry->name; });
  for (size_t i = 1; i < sorted.size(); ++i)
    LIBTRAIN_CHECK(sorted[i - 1]->name != sorted[i]->name, "[write_safetensors] two tensors are named '{}'; rename one",
                   sorted[i]->name);

  const std::string header = header_text(sorted, metadata);
  std::vector<std::byte> file;
  size_t total = kLengthBytes + header.size();
  for (const TensorEntry* entry : sorted) total += entry->bytes.size();
  file.reserve(total);
  for (uint64_t i = 0; i < kLengthBytes; ++i) file.push_back(std::byte(header.size() >> (8 * i)));
  const auto text = std::as_bytes(std::span(header));
  file.insert(file.end(), text.begin(), text.end());
  for (const TensorEntry* entry : sorted) file.insert(file.end(), entry->bytes.begin(), entry->bytes.end());
  return file;
}

SafetensorsFile SafetensorsFile::read(const std::string& path) {
  return parse(read_file(path, std::numeric_limits<int64_t>::max()), path);
}

SafetensorsFile SafetensorsFile::parse(std::vector<std::byte> bytes, const std::string& label) {
  SafetensorsFile file;
  file.label_ = label;
  file.bytes_ = std::move(bytes);
  const HeaderReader reader(label);
  const uint64_t length = header_length(file.bytes_, reader);
  const Json header = reader.parse({reinterpret_cast<const char*>(file.bytes_.data()) + kLengthBytes, size_t(length)});
  const std::span<const std::byte> data = std::span(file.bytes_).subspan(kLengthBytes + length);
  std::vector<std::pair<std::pair<int64_t, int64_t>, std::string>> places;
  for (const auto& [name, json] : header.items()) {
    if (name == kMetadata) {
      file.metadata_ = reader.metadata(json);
      continue;
    }
    auto [entry, place] = reader.tensor(name, json);
    places.emplace_back(place, name);
    file.entries_[name] = std::move(entry);
  }
  check_cover(places, int64_t(data.size()), reader);
  for (const auto& [place, name] : places)
    file.entries_[name].bytes = data.subspan(size_t(place.first), size_t(place.second - place.first));
  return file;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const TensorEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    throw CheckpointError(format_message("[{}] holds no tensor named '{}'; names() lists them", label_, name));
  return found->second;
}

}  // namespace libtrain
