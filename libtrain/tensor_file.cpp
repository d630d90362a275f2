#include "libtrain/tensor_file.h"

#include <algorithm>
#include <span>

#include "libtrain/io/hash.h"

namespace libtrain {
namespace {

const char* format_dtype(DType dtype) {
  constexpr const char* kNames[] = {"F32", "BF16", "F64", "I32", "I64"};
  return kNames[int(dtype)];
}

std::span<const std::byte> bytes_of(const Tensor& host) {
  return {host.node_handle()->data, size_t(host.numel() * size_of(host.dtype()))};
}

/// As Shape prints it, which has fewer dimensions than a file may have.
std::string spec_of(const TensorEntry& entry) {
  std::string text = entry.dtype + "[";
  for (size_t i = 0; i < entry.shape.size(); ++i) text += (i ? ", " : "") + std::to_string(entry.shape[i]);
  return text + "]";
}
std::string spec_of(const Tensor& tensor) { return format_dtype(tensor.dtype()) + tensor.shape().str(); }

bool fits(const TensorEntry& entry, const Tensor& target, bool convert) {
  const bool same = entry.dtype == format_dtype(target.dtype());
  const bool convertible = convert && (entry.dtype == "F32" || entry.dtype == "F64");
  return (same || convertible) && std::ranges::equal(entry.shape, target.shape().dims());
}

}  // namespace

void TensorFile::add(const std::string& name, const Tensor& tensor) {
  tensors_.emplace_back(name, tensor.detach().to(Device::kCpu));
}

std::vector<std::byte> TensorFile::bytes() const {
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : tensors_) {
    const auto dims = tensor.shape().dims();
    entries.push_back({name, format_dtype(tensor.dtype()), {dims.begin(), dims.end()}, bytes_of(tensor)});
  }
  return write_safetensors(entries);
}

std::vector<std::pair<std::string, std::string>> TensorFile::hashes() const {
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& [name, tensor] : tensors_) all.emplace_back(name, xxh3_128_hex(bytes_of(tensor)));
  return all;
}

void TensorTargets::check(const SafetensorsFile& file, const std::string& path, bool convert) const {
  std::vector<std::string> faults;
  size_t found = 0;
  for (const auto& [name, target] : targets_)
    if (!file.contains(below + name))
      faults.push_back("missing " + below + name + " " + spec_of(target));
    else if (++found; !fits(file.entry(below + name), target, convert))
      faults.push_back(below + name + " is " + spec_of(file.entry(below + name)) + ", expected " + spec_of(target));
  for (const std::string& name : file.names())
    if (name.starts_with(below) && !targets_.contains(name.substr(below.size())))
      faults.push_back("unexpected " + name + " " + spec_of(file.entry(name)));
  if (faults.empty()) return;
  const size_t shown = std::min<size_t>(faults.size(), 4);
  std::string list;
  for (size_t i = 0; i < shown; ++i) list += (i ? "; " : "") + faults[i];
  const bool in_part = convert && found > 0 && found < targets_.size();
  throw CheckpointError(format_message(
      "[{}] does not fit this model, {} differences: {}{}; build the model with the options it was "
      "saved with{}",
      path, faults.size(), list, faults.size() > shown ? "; …" : "",
      in_part ? "; for a part of it, load it into such a model in another store and call Parameters::copy_values()"
              : ""));
}

void TensorTargets::copy(const SafetensorsFile& file) const {
  for (const auto& [name, target] : targets_) {
    const TensorEntry entry = file.entry(below + name);
    const Tensor host(target.shape(), entry.dtype == "F64"   ? DType::f64
                                      : entry.dtype == "F32" ? DType::f32
                                                             : target.dtype());
    copy_bytes(host.node_handle()->data, Device::kCpu, entry.bytes.data(), Device::kCpu, entry.bytes.size());
    target.copy_from(host.dtype() == target.dtype() ? host : host.cast(target.dtype()));
  }
}

}  // namespace libtrain
