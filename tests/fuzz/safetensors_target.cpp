/// The reader of safetensors files: what it accepts lies within the file, and is the same again when it was written and read once more.
#include <algorithm>
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

/// Every refusal says where.
std::optional<SafetensorsFile> parse_or_complain(std::string_view input) {
  std::optional<SafetensorsFile> file;
  try {
    measured(input.size(), [&] { file = parse(input); });
  } catch (const CheckpointError& error) {
    const std::string message = error.what();
    require(message.starts_with("[input] ") && message.find(" (byte ") != message.npos, "no byte in: " + message);
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
