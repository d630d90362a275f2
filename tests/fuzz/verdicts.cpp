/// Reads safetensors files from stdin, each as eight bytes of length and its bytes, and answers a line each: "refused MESSAGE", or "accepted", the
/// metadata and for each tensor its name, dtype, shape and elements, all in hexadecimal. With `rewrite`: instead the file as libtrain writes it.
#include <cstdint>
#include <cstdio>
#include <string>

#include "libtrain/io/safetensors.h"

namespace {

using libtrain::SafetensorsFile;

std::string hex(std::span<const std::byte> bytes) {
  std::string text = "x";
  for (const std::byte byte : bytes)
    for (const int digit : {int(byte) >> 4, int(byte) & 15}) text.push_back("0123456789abcdef"[digit]);
  return text;
}
std::string hex(const std::string& text) { return hex(std::as_bytes(std::span(text))); }

std::string described(const SafetensorsFile& file) {
  std::string line = "accepted";
  for (const auto& [key, text] : file.metadata()) line += " " + hex(key) + "=" + hex(text);
  for (const std::string& name : file.names()) {
    const libtrain::TensorEntry entry = file.entry(name);
    line += " " + hex(name) + ":" + entry.dtype + ":";
    for (const int64_t size : entry.shape) line += std::to_string(size) + ",";
    line += ":" + hex(entry.bytes);
  }
  return line;
}

std::string rewritten(const SafetensorsFile& file) {
  std::vector<libtrain::TensorEntry> entries;
  for (const std::string& name : file.names()) entries.push_back(file.entry(name));
  return hex(libtrain::write_safetensors(entries, file.metadata()));
}

std::string verdict(const std::string& bytes, bool rewrite) {
  try {
    const auto view = std::as_bytes(std::span(bytes));
    const SafetensorsFile file = SafetensorsFile::parse({view.begin(), view.end()}, "file");
    return rewrite ? rewritten(file) : described(file);
  } catch (const libtrain::CheckpointError& error) {
    return std::string("refused ") + error.what();
  }
}

bool read_bytes(std::string& bytes) { return std::fread(bytes.data(), 1, bytes.size(), stdin) == bytes.size(); }

}  // namespace

int main(int argc, char**) {
  for (std::string length(8, '\0'); read_bytes(length);) {
    uint64_t count = 0;
    for (size_t i = 0; i < 8; ++i) count |= uint64_t(uint8_t(length[i])) << (8 * i);
    std::string bytes(count, '\0');
    if (!read_bytes(bytes)) return 1;
    std::string line = verdict(bytes, argc > 1);
    for (char& c : line)
      if (c == '\n') c = ' ';
    std::puts(line.c_str());
  }
}
