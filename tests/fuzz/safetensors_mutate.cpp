#include "fuzz/safetensors_mutate.h"

#include <algorithm>
#include <vector>

#include "fuzz/mutate.h"

namespace libtrain::fuzz {
namespace {

constexpr size_t kLengthBytes = 8;
const std::vector<std::string> kWords{"dtype",
                                      "shape",
                                      "data_offsets",
                                      "__metadata__",
                                      "F32",
                                      "F64",
                                      "BF16",
                                      "I32",
                                      "I64",
                                      "U8",
                                      "F16",
                                      "BOOL",
                                      "w",
                                      "a",
                                      "b",
                                      "",
                                      "encoder.0.weight",
                                      "한국",
                                      "\\u0077"};

std::string length_field(uint64_t length) {
  std::string text;
  for (size_t i = 0; i < kLengthBytes; ++i) text.push_back(char(length >> (8 * i)));
  return text;
}

std::string shape_text(const std::vector<size_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + std::to_string(shape[i]);
  return text + "]";
}

std::string file_of(const std::string& header, const std::string& data) {
  return length_field(header.size()) + header + data;
}

}  // namespace

std::string new_safetensors(Random& random) {
  constexpr struct {
    const char* name;
    size_t bytes;
  } kTypes[] = {{"F32", 4}, {"F64", 8}, {"BF16", 2}, {"I32", 4}, {"I64", 8}, {"U8", 1}};
  std::string header = random.once_in(3) ? R"({"__metadata__":{"format":"pt","note":"x"},)" : "{";
  size_t end = 0;
  for (size_t i = 0, count = random.below(7); i < count; ++i) {
    const auto& type = kTypes[random.below(6)];
    std::vector<size_t> shape(random.below(4));
    size_t bytes = type.bytes;
    for (size_t& size : shape) bytes *= size = random.below(4);
    header += "\"t" + std::to_string(i) + "\":{\"dtype\":\"" + type.name + "\",\"shape\":" + shape_text(shape) +
              ",\"data_offsets\":[" + std::to_string(end) + "," + std::to_string(end + bytes) + "]},";
    end += bytes;
  }
  if (header.back() == ',') header.pop_back();
  return file_of(header + "}" + std::string(random.below(8), ' '), std::string(end, 'd'));
}

std::string mutate_safetensors(const std::string& file, Random& random) {
  if (file.size() < kLengthBytes || random.once_in(16)) return new_safetensors(random);
  if (random.once_in(16)) return mutate_bytes(file, random);
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= uint64_t(uint8_t(file[i])) << (8 * i);
  const size_t held = size_t(std::min<uint64_t>(length, file.size() - kLengthBytes));
  std::string header = file.substr(kLengthBytes, held), data = file.substr(kLengthBytes + held);
  if (random.once_in(8))
    data.resize(data.size() + random.below(9) - std::min<size_t>(data.size(), 4));
  else
    header = mutate_json(header, kWords, random);
  return random.once_in(32) ? length_field(random.next() >> random.below(64)) + header + data : file_of(header, data);
}

}  // namespace libtrain::fuzz
