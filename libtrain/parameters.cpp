#include "libtrain/parameters.h"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <numbers>

#include "kernels/convert.h"

namespace libtrain {
namespace {

constexpr int64_t kSlotBytes = 256;

uint64_t hash_name(std::string_view name) {  // FNV-1a
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ uint8_t(c)) * 0x100000001B3u;
  return hash;
}

/// Uniform doubles in [0, 1) from a stream that seed and name define, so that adding a parameter changes no other.
std::function<double()> generator_for(uint64_t seed, std::string_view name) {
  const uint64_t key = random_key({seed, hash_name(name)});
  return [key, i = uint64_t(0)]() mutable {
    const auto words = philox<10>({uint32_t(i), uint32_t(i >> 32), 0, 0}, uint32_t(key), uint32_t(key >> 32));
    ++i;
    return double((uint64_t(words[0]) << 21) ^ (words[1] >> 11)) * 0x1p-53;
  };
}

template <class T> T read_state(const Tensor& tensor) {
  static_assert(std::is_trivially_copyable_v<T>);
  T state;
  const Tensor host = tensor.to(Device::kCpu);
  std::memcpy(&state, host.node_handle()->data, sizeof(T));
  return state;
}

template <class T> void write_field(const Tensor& tensor, size_t offset, const T& value) {
  copy_bytes(tensor.node_handle()->data + offset, tensor.device(), &value, Device::kCpu, sizeof(T));
}
template <class T> void write_state(const Tensor& tensor, const T& state) { write_field(tensor, 0, state); }

}  // namespace

namespace init {
Initializer constant(double value) {
  return [value](std::span<double> values, const Shape&, const auto&) { std::ranges::fill(values, value); };
}

Initializer uniform(double low, double high) {
  return [=](std::span<double> values, const Shape&, const auto& generator) {
    for (double& value : values) value = low + (high - low) * generator();
  };
}

Initializer normal(double mean, double stddev) {
  return [=](std::span<double> values, const Shape&, const auto& generator) {
    for (double& value : values) {  // Box and Muller
      const double radius = std::sqrt(-2 * std::log1p(-generator()));
      value = mean + stddev * radius * std::cos(2 * std::numbers::pi * generator());
    }
  };
}

Initializer xavier_uniform(double gain) {
  return [gain](std::span<double> values, const Shape& shape, const auto& generator) {
    LIBTRAIN_CHECK(shape.rank() == 2, "[xavier_uniform] expected a weight [fan_out, fan_in], got {}", shape.str());
    const double bound = gain * std::sqrt(6.0 / double(shape[0] + shape[1]));
    uniform(-bound, bound)(values, shape, generator);
  };
}
}  // namespace init

Parameters::Parameters(Options options) : options_(options) {
  LIBTRAIN_CHECK(options.dtype == DType::f32 || options.dtype == DType::f64,
                 "[parameters] expected dtype f32 or f64, got {}", name(options.dtype));
  LIBTRAIN_CHECK(!options.mixed_precision || options.dtype == DType::f32,
                 "[parameters] mixed precision keeps f32 values, got dtype {}", name(options.dtype));
  random_state_ = Tensor::zeros({int64_t(sizeof(RandomState) / 8)}, DType::i64, options.device);
  step_state_ = Tensor::zeros({int64_t(sizeof(StepState) / 8)}, DType::f64, options.device);
  set_random({options.seed, 0});
  grow(1);
}

Tensor Parameters::add(const std::string& name, const Shape& shape, const Initializer& initializer) {
  LIBTRAIN_CHECK(!name.empty() && !contains(name), "[parameters] expected a new name, got '{}'", name);
  std::vector<double> start(size_t(shape.numel()));
  initializer(start, shape, generator_for(options_.seed, name));
  const int64_t unit = kSlotBytes / size_of(compute_dtype());
  const int64_t size = (shape.numel() + unit - 1) / unit * unit;
  if (used_ + size > capacity_) grow(used_ + size);

  const auto slice_of = [&](const Tensor& flat) { return flat.rows(used_, used_ + shape.numel()).reshape(shape); };
  const Tensor master = slice_of(values_), value = options_.mixed_precision ? slice_of(rounded_) : master;
  slots_.push_back({name, value, master, used_});
  used_ += size;
  value.set_requires_grad();
  bind(slots_.back());
  const Tensor exact = Tensor::from(std::span<const double>(start), shape).cast(options_.dtype);
  master.copy_from(exact.to(options_.device));
  if (options_.mixed_precision) value.copy_from(exact.cast(DType::bf16).to(options_.device));
  return value;
}

/// Makes the tensors of a slot point into the flat buffers, wherever these are now.
void Parameters::bind(const Slot& slot) const {
  const auto place = [&](const Tensor& tensor, const Tensor& flat) {
    auto& node = *tensor.node_handle();
    node.storage = flat.node_handle()->storage;
    node.data = flat.node_handle()->data + slot.offset * size_of(flat.dtype());
  };
  place(slot.master, values_);
  if (options_.mixed_precision) place(slot.value, rounded_);
  auto& node = *slot.value.node_handle();
  node.grad_storage = gradients_.node_handle()->storage;
  node.grad_data = gradients_.node_handle()->data + slot.offset * size_of(options_.dtype);
  node.grad_dtype = options_.dtype;
}

void Parameters::round_values() const {
  if (!options_.mixed_precision) return;
  const kernels::Convert<float, bf16> args{values().view<const float>(), rounded_values().view<bf16>()};
  on(device(), [&](auto device) { kernels::convert(device, args); });
}

void Parameters::grow(int64_t needed) {
  capacity_ = std::max(needed, 2 * capacity_);
  const auto grow_buffer = [&](Tensor& buffer, MemoryUse use, DType dtype) {
    const MemoryUseScope scope(use);
    const Tensor bigger = Tensor::zeros({capacity_}, dtype, options_.device);
    if (used_) bigger.rows(0, used_).copy_from(buffer.rows(0, used_));
    buffer = bigger;
  };
  grow_buffer(values_, MemoryUse::kWeights, options_.dtype);
  grow_buffer(gradients_, MemoryUse::kGradients, options_.dtype);
  for (Tensor* moment : {&first_moment_, &second_moment_}) grow_buffer(*moment, MemoryUse::kOptimizer, options_.dtype);
  if (options_.mixed_precision) grow_buffer(rounded_, MemoryUse::kWeights, DType::bf16);
  for (const Slot& slot : slots_) bind(slot);
}

bool Parameters::contains(std::string_view name) const {
  return std::ranges::any_of(slots_, [&](const Slot& slot) { return slot.name == name; });
}

const Tensor& Parameters::get(std::string_view name) const {
  for (const Slot& slot : slots_)
    if (slot.name == name) return slot.value;
  std::vector<std::string> names;
  for (const Slot& slot : slots_) names.push_back(slot.name);
  throw InvalidArgument(format_message("[parameters] none of the {} parameters is named '{}'{}", names.size(), name,
                                       did_you_mean(name, names)));
}

int64_t Parameters::count() const {
  int64_t total = 0;
  for (const Slot& slot : slots_) total += slot.value.numel();
  return total;
}

Tensor Parameters::slice(const Tensor& flat, const Slot& slot) const {
  return flat.rows(slot.offset, slot.offset + slot.value.numel()).reshape(slot.value.shape());
}

void Parameters::clear_gradients() const {
  for (const Slot& slot : slots_) slot.value.clear_grad();
}

void Parameters::zero_unwritten_gradients() const {
  for (const Slot& slot : slots_)
    if (!slot.value.has_grad()) slice(gradients_, slot).fill(0);
}

void Parameters::mark_gradients_written() const {
  for (const Slot& slot : slots_) slot.value.node_handle()->grad_written = true;
}

RandomState Parameters::random() const { return read_state<RandomState>(random_state_); }
void Parameters::set_random(RandomState state) const { write_state(random_state_, state); }
StepState Parameters::step() const { return read_state<StepState>(step_state_); }
View<StepState> Parameters::step_view() const {
  return {reinterpret_cast<StepState*>(step_state_.view<double>().data)};
}
void Parameters::set_step(const StepState& state) const { write_state(step_state_, state); }
void Parameters::set_random_step(uint64_t step) const { write_field(random_state_, offsetof(RandomState, step), step); }
void Parameters::set_learning_rate(double rate) const {
  write_field(step_state_, offsetof(StepState, learning_rate), rate);
}

}  // namespace libtrain
