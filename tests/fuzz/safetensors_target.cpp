/// The reader of safetensors files: what it accepts lies within the file, and is the same again when it was written and read once more.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "fuzz/safetensors_mutate.h"
#include "fuzz/target.h"
#include "libtrain/io/safetensors.h"

namespace libtrain::fuzz {
namespace {

SafetensorsFile parse(std::string_view input) {
  const auto bytes = std::as_bytes(std::span(input));
  return SafetensorsFile::parse({bytes.begin(), bytes.end()}, "input");
}

/// Of a file whose length field has been accepted: inputs are shorter than 2^16.
size_t header_bytes(std::string_view input) { return size_t(uint8_t(input[0])) | size_t(uint8_t(input[1])) << 8; }

/// Where the complaint is that the header is no JSON, another parser says so too. That one ends at a NUL.
void check_json_verdict(std::string_view input, const std::string& complaint) {
  if (complaint.find("] header: ") == complaint.npos || input.size() < 8) return;
  const std::string_view header = input.substr(8, header_bytes(input));
  const bool none = complaint.find("no JSON") != complaint.npos || complaint.find("not UTF-8") != complaint.npos ||
                    complaint.find("no escape") != complaint.npos;
  if (none && header.find('\0') == header.npos)
    require(!nlohmann::json::accept(header), "no JSON here, JSON for another parser: " + complaint);
}

/// Every refusal says where.
std::optional<SafetensorsFile> parse_or_complain(std::string_view input) {
  std::optional<SafetensorsFile> file;
  try {
    measured(input.size(), [&] { file = parse(input); });
  } catch (const CheckpointError& error) {
    const std::string message = error.what();
    require(message.starts_with("[input] ") && message.find(" (byte ") != message.npos, "no byte in: " + message);
    check_json_verdict(input, message);
    throw;
  }
  return file;
}

bool same(const TensorEntry& a, const TensorEntry& b) {
  return a.dtype == b.dtype && a.shape == b.shape && std::ranges::equal(a.bytes, b.bytes);
}

}  // namespace

void prepare() {}

void run(std::string_view input) {
  const SafetensorsFile file = *parse_or_complain(input);
  require(nlohmann::json::accept(input.substr(8, header_bytes(input))), "JSON here, none for another parser");
  std::vector<TensorEntry> entries;
  for (const std::string& name : file.names()) {
    require(file.contains(name) && file.entry(name).name == name, "a name that is not found");
    entries.push_back(file.entry(name));
  }
  const auto written = write_safetensors(entries, file.metadata());
  const SafetensorsFile again = SafetensorsFile::parse(written, "written");
  require(again.names() == file.names() && again.metadata() == file.metadata(), "other names or metadata");
  for (const TensorEntry& entry : entries) require(same(entry, again.entry(entry.name)), "another tensor");
}

std::string mutate(const std::string& input, Random& random) { return mutate_safetensors(input, random); }

}  // namespace libtrain::fuzz
