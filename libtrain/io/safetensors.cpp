#include "libtrain/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "libtrain/io/file.h"
#include "libtrain/io/json.h"
#include "libtrain/utf8.h"

namespace libtrain {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // the reference implementation's limit
constexpr size_t kMaxEntries = 1'000'000, kMaxName = 4096, kMaxRank = 8, kShownName = 100;
constexpr int kMaxDepth = 3;
constexpr const char* kMetadata = "__metadata__";

std::optional<int64_t> element_size(const std::string& dtype) {
  static const std::map<std::string, int64_t> sizes{{"F32", 4}, {"F64", 8}, {"BF16", 2},
                                                    {"I32", 4}, {"I64", 8}, {"U8", 1}};
  const auto found = sizes.find(dtype);
  return found == sizes.end() ? std::nullopt : std::optional(found->second);
}

[[noreturn]] void refuse_file(const std::string& label, const std::string& field, uint64_t at,
                              const std::string& complaint, const char* remedy = "copy the file again") {
  throw CheckpointError(format_message("[{}] {}: {} (byte {} of the file); {}", label, field, complaint, at, remedy));
}

/// What torch.save has written, if the first bytes are not those of a safetensors file; else nullptr. A zip archive is its form since 2020, a
/// pickle begins with 0x80 and the number of its protocol.
const char* torch_form(std::span<const std::byte> bytes) {
  if (bytes.size() > kLengthBytes && bytes[kLengthBytes] == std::byte('{')) return nullptr;  // the length is damaged
  if (bytes[0] == std::byte('P') && bytes[1] == std::byte('K')) return "a zip archive";
  return bytes[0] == std::byte(0x80) && bytes[1] >= std::byte(2) && bytes[1] <= std::byte(5) ? "a pickle" : nullptr;
}

/// Bytes of a tensor, or nothing when the product overflows or a size is negative.
std::optional<int64_t> byte_size(const std::vector<int64_t>& shape, int64_t element) {
  int64_t total = element;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(total, size, &total)) return std::nullopt;
  return total;
}

/// Reads parts of a header; every complaint names file, field and the byte of the file where it stands.
struct HeaderReader {
  std::string_view text;  // accepted by check_json()
  const std::string& label;

  [[noreturn]] void refuse(const std::string& field, size_t at, const std::string& complaint) const {
    refuse_file(label, field, kLengthBytes + at, complaint);
  }

  /// With its escapes as they are: the name need not be fit to be printed.
  static std::string field_of(const JsonView& name) {
    const std::string_view raw = name.raw();
    return "tensor '" + shortened(raw.substr(1, raw.size() - 2), kShownName) + "'";
  }

  void check_metadata(const JsonView& json) const {
    if (!json.is_object()) refuse(kMetadata, json.at(), "expected an object, got " + json.shown());
    json.members([&](const JsonView& key, const JsonView& value) {
      if (!value.is_text())
        refuse(kMetadata, value.at(), "expected texts, got " + value.shown() + " under " + key.shown());
    });
  }

  /// The tensor without its bytes, and their place [begin, end) in the data. Whether places fit together is checked for all of them at once.
  std::pair<TensorEntry, std::pair<int64_t, int64_t>> tensor(const JsonView& name, const JsonView& json) const {
    const std::string field = field_of(name);
    if (name.raw().size() > kMaxName + 2)
      refuse(field, name.at(),
             format_message("a name of {} bytes, expected at most {}", name.raw().size() - 2, kMaxName));
    const auto dtype = json.find("dtype"), shape = json.find("shape"), offsets = json.find("data_offsets");
    if (!dtype || !shape || !offsets || members_of(json) != 3)
      refuse(field, json.at(), "expected exactly dtype, shape and data_offsets");
    const auto element =
        dtype->is_text() && dtype->raw().size() < kShownName ? element_size(dtype->text()) : std::nullopt;
    if (!element)
      refuse(field + " dtype", dtype->at(), "expected F32, F64, BF16, I32, I64 or U8, got " + dtype->shown());
    TensorEntry entry{name.text(), dtype->text(), sizes(field + " shape", *shape, kMaxRank), {}};
    const auto place = sizes(field + " data_offsets", *offsets, 2);
    if (place.size() != 2 || place[0] > place[1])
      refuse(field + " data_offsets", offsets->at(), "expected [begin, end], got " + offsets->shown());
    const auto bytes = byte_size(entry.shape, *element);
    if (!bytes || *bytes != place[1] - place[0])
      refuse(field + " data_offsets", offsets->at(),
             format_message("{} {} takes {} bytes, got {}", entry.dtype, shape->shown(),
                            bytes ? std::to_string(*bytes) : "too many", place[1] - place[0]));
    return {std::move(entry), {place[0], place[1]}};
  }

 private:
  static size_t members_of(const JsonView& json) {
    size_t count = 0;
    json.members([&](const JsonView&, const JsonView&) { ++count; });
    return count;
  }

  std::vector<int64_t> sizes(const std::string& field, const JsonView& json, size_t most) const {
    std::vector<int64_t> result;
    const auto refuse_it = [&](const std::string& expected) {
      refuse(field, json.at(), "expected " + expected + ", got " + json.shown());
    };
    if (!json.is_array()) refuse_it("whole numbers in brackets");
    json.elements([&](const JsonView& value) {
      const auto size = value.whole();
      if (!size || *size > uint64_t(std::numeric_limits<int64_t>::max())) refuse_it("whole numbers >= 0 below 2^63");
      if (result.size() == most) refuse_it(format_message("at most {} whole numbers", most));
      result.push_back(int64_t(*size));
    });
    return result;
  }
};

uint64_t header_length(std::span<const std::byte> bytes, const std::string& label) {
  const auto refuse = [&](const std::string& complaint) { refuse_file(label, "header length", 0, complaint); };
  if (bytes.size() < kLengthBytes) refuse(format_message("expected 8 bytes, got a file of {}", bytes.size()));
  uint64_t length = 0;
  for (uint64_t i = 0; i < kLengthBytes; ++i) length |= uint64_t(bytes[i]) << (8 * i);
  if (const char* form = length > kMaxHeader ? torch_form(bytes) : nullptr)
    refuse_file(label, "header length", 0,
                format_message("expected a safetensors file, got {} as torch.save writes it", form),
                "write it with safetensors.torch.save_file");
  if (length > kMaxHeader) refuse(format_message("{} bytes, the limit is {}", length, kMaxHeader));
  if (length > bytes.size() - kLengthBytes)
    refuse(format_message("{} bytes, but only {} follow: the file is cut short", length, bytes.size() - kLengthBytes));
  return length;
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
  LIBTRAIN_CHECK(
      entry.name != kMetadata && entry.name.size() <= kMaxName,
      "[write_safetensors] no tensor can be named '{}' ({} bytes); the format keeps {} for itself, and names "
      "have at most {} bytes",
      entry.name.substr(0, 100), entry.name.size(), kMetadata, kMaxName);
  LIBTRAIN_CHECK(bytes && *bytes == int64_t(entry.bytes.size()) && entry.shape.size() <= kMaxRank,
                 "[write_safetensors] tensor '{}' of dtype {} does not fit its {} bytes; shape, dtype "
                 "and bytes must agree, in at most {} dimensions",
                 entry.name, entry.dtype, entry.bytes.size(), kMaxRank);
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
  file.data_ = kLengthBytes + header_length(file.bytes_, label);
  file.check_header();
  file.check_places();
  return file;
}

std::string_view SafetensorsFile::header() const {
  return {reinterpret_cast<const char*>(bytes_.data()) + kLengthBytes, size_t(data_ - kLengthBytes)};
}

void SafetensorsFile::check_header() {
  const HeaderReader reader{header(), label_};
  if (!reader.text.starts_with('{')) reader.refuse("header", 0, "expected it to begin with '{'");
  const JsonView root = check_json(reader.text, kMaxDepth, {label_, "header", kLengthBytes});
  root.members([&](const JsonView& name, const JsonView& json) {
    if (name.is_text(kMetadata)) {
      reader.check_metadata(json);
      metadata_ = uint32_t(json.at());
      return;
    }
    if (places_.size() == kMaxEntries)
      reader.refuse("header", name.at(), format_message("more than {} tensors", kMaxEntries));
    const auto [begin, end] = reader.tensor(name, json).second;
    places_.push_back({begin, end, uint32_t(name.at()), uint32_t(json.at())});
  });
}

/// Refuses a hole, an overlap, and data that is missing or left over.
void SafetensorsFile::check_places() {
  const HeaderReader reader{header(), label_};
  const auto field_of = [&](const Place& place) { return reader.field_of(JsonView(reader.text, place.name)); };
  std::sort(places_.begin(), places_.end(), [](const Place& a, const Place& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t at = 0;
  for (const Place& place : places_) {
    if (place.begin != at)
      reader.refuse(field_of(place) + " data_offsets", place.json,
                    format_message("begins at byte {} of the data, expected {}: {}", place.begin, at,
                                   place.begin < at ? "an overlap" : "a hole"));
    at = place.end;
  }
  if (const auto data = int64_t(bytes_.size() - data_); at != data)
    refuse_file(
        label_, "data", data_,
        format_message("the tensors take {} bytes, the file has {}{}", at, data, at > data ? ": it is cut short" : ""));
  std::sort(places_.begin(), places_.end(), [&](const Place& a, const Place& b) {
    return JsonView(reader.text, a.name).compare_text(JsonView(reader.text, b.name)) < 0;
  });
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const Place& place : places_) names.push_back(JsonView(header(), place.name).text());
  return names;
}

const SafetensorsFile::Place* SafetensorsFile::find(const std::string& name) const {
  const auto text = [&](const Place& place) { return JsonView(header(), place.name).text(); };
  const auto found = std::ranges::lower_bound(places_, name, {}, text);
  return found != places_.end() && text(*found) == name ? &*found : nullptr;
}

TensorEntry SafetensorsFile::entry(const std::string& name) const {
  const Place* place = find(name);
  if (!place)
    throw CheckpointError(format_message("[{}] holds no tensor named '{}'; names() lists them", label_, name));
  const HeaderReader reader{header(), label_};
  TensorEntry entry = reader.tensor(JsonView(header(), place->name), JsonView(header(), place->json)).first;
  entry.bytes = std::span(bytes_).subspan(size_t(data_) + size_t(place->begin), size_t(place->end - place->begin));
  return entry;
}

std::map<std::string, std::string> SafetensorsFile::metadata() const {
  std::map<std::string, std::string> texts;
  if (metadata_ > 0)
    JsonView(header(), metadata_).members([&](const JsonView& key, const JsonView& value) {
      texts[key.text()] = value.text();
    });
  return texts;
}

}  // namespace libtrain
