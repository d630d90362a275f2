#include "libtrain/parameters.h"

#include <cstddef>

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
  copy_bytes(&state, Device::kCpu, tensor.node_handle()->data, tensor.device(), sizeof(T));
  return state;
}

template <class T> void write_field(const Tensor& tensor, size_t offset, const T& value) {
  copy_bytes(tensor.node_handle()->data + offset, tensor.device(), &value, Device::kCpu, sizeof(T));
}
template <class T> void write_state(const Tensor& tensor, const T& state) { write_field(tensor, 0, state); }

}  // namespace

Parameters::Parameters(Options options) : options_(options) {
  LIBTRAIN_CHECK(options.dtype == DType::f32 || options.dtype == DType::f64,
                 "[parameters] expected dtype f32 or f64, got {}; mixed_precision computes in bf16 beside f32 values",
                 name(options.dtype));
  LIBTRAIN_CHECK(!options.mixed_precision || options.dtype == DType::f32,
                 "[parameters] mixed precision keeps f32 values, got dtype {}; leave dtype as it is",
                 name(options.dtype));
  random_state_ = Tensor::zeros({int64_t(sizeof(RandomState) / 8)}, DType::i64, options.device);
  step_state_ = Tensor::zeros({int64_t(sizeof(StepState) / 8)}, DType::f64, options.device);
  set_random({options.seed, 0});
  grow(1);
}

Tensor Parameters::add(const std::string& name, const Shape& shape, const Initializer& initializer) {
  LIBTRAIN_CHECK(!name.empty() && !contains(name),
                 "[parameters] expected a new name, got '{}'; every parameter needs one of its own", name);
  const std::vector<double> start = initial_values(name, shape, initializer);
  const int64_t unit = kSlotBytes / size_of(compute_dtype());
  const int64_t size = (shape.numel() + unit - 1) / unit * unit;
  if (used_ + size > capacity_) grow(used_ + size);

  const auto slice_of = [&](const Tensor& flat) { return flat.rows(used_, used_ + shape.numel()).reshape(shape); };
  const Tensor master = slice_of(values_), value = options_.mixed_precision ? slice_of(rounded_) : master;
  const Slot slot{name, value, master, used_};
  value.set_requires_grad();
  bind(slot);
  set_value(slot, Tensor::from(std::span<const double>(start), shape));
  slots_.push_back(slot);
  used_ += size;
  factors_ = Tensor();
  ++changes_;
  return value;
}

std::vector<double> Parameters::initial_values(const std::string& name, const Shape& shape,
                                               const Initializer& initializer) const {
  std::vector<double> values;
  try {
    values.resize(size_t(shape.numel()));
  } catch (const std::exception&) {  // of the standard library, which cannot say what for
    throw OutOfMemory(format_message("[parameters] no memory for the {} initial values of {}, {}; use a smaller model",
                                     shape.numel(), name, shape.str()));
  }
  initializer(values, shape, generator_for(options_.seed, name));
  return values;
}

/// Sets value, rounded value and average, from any float tensor of the slot's shape.
void Parameters::set_value(const Slot& slot, const Tensor& value) const {
  slot.master.copy_from(value.cast(options_.dtype).to(options_.device));
  if (options_.mixed_precision) slot.value.copy_from(slot.master.cast(DType::bf16));
  if (options_.average) slice(average_, slot).copy_from(slot.master);
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

/// Those that this store has.
std::vector<Parameters::Buffer> Parameters::buffers() {
  const DType dtype = options_.dtype;
  std::vector<Buffer> all{{&values_, MemoryUse::kWeights, dtype}, {&gradients_, MemoryUse::kGradients, dtype}};
  for (Tensor& moment : moments_)
    if (moment.defined()) all.push_back({&moment, MemoryUse::kOptimizer, dtype});
  if (options_.mixed_precision) all.push_back({&rounded_, MemoryUse::kWeights, DType::bf16});
  if (options_.average) all.push_back({&average_, MemoryUse::kOptimizer, dtype});
  return all;
}

/// What the buffer holds, and zeros behind it.
Tensor Parameters::moved(const Buffer& buffer, int64_t capacity) const {
  const MemoryUseScope scope(buffer.use);
  Tensor to = Tensor::zeros({capacity}, buffer.dtype, options_.device);
  if (used_) to.rows(0, used_).copy_from(buffer.flat->rows(0, used_));
  return to;
}

/// All buffers or none: the memory may not be there.
void Parameters::grow(int64_t needed) {
  const int64_t capacity = std::max(needed, 2 * capacity_);
  std::vector<std::pair<Tensor*, Tensor>> grown;
  for (const Buffer& buffer : buffers()) grown.emplace_back(buffer.flat, moved(buffer, capacity));
  for (auto& [buffer, bigger] : grown) *buffer = std::move(bigger);
  capacity_ = capacity;
  ++changes_;
  for (const Slot& slot : slots_) bind(slot);
}

/// One buffer after the other, so that one alone is there twice.
void Parameters::shrink_to_fit() {
  if (used_ == 0 || used_ == capacity_) return;
  release_cached(Device::kCpu);  // where initial values were made
  release_cached(options_.device);
  ++changes_;
  capacity_ = used_;
  for (const Buffer& buffer : buffers()) {
    *buffer.flat = moved(buffer, capacity_);
    for (const Slot& slot : slots_) bind(slot);
    release_cached(options_.device);
  }
}

void Parameters::swap_average() {
  LIBTRAIN_CHECK(options_.average, "[parameters] no average is kept; make the store with {}", ".average = true");
  const auto exchange = [&] {
    std::swap(values_, average_);
    swapped_ = !swapped_;
    for (const Slot& slot : slots_) bind(slot);
  };
  exchange();
  try {
    round_values();
  } catch (...) {  // on the way back the values stay
    if (swapped_) exchange();
    throw;
  }
}

std::vector<Parameters::Slot*> Parameters::chosen(const char* caller, const Filter& filter) {
  std::vector<Slot*> found;
  for (Slot& slot : slots_)
    if (filter(slot)) found.push_back(&slot);
  LIBTRAIN_CHECK(!found.empty(), "[{}] none of the {} parameters is chosen; Parameters::str() lists them", caller,
                 slots_.size());
  return found;
}

bool Parameters::contains(std::string_view name) const {
  return std::ranges::any_of(slots_, [&](const Slot& slot) { return slot.name == name; });
}

Tensor Parameters::get(std::string_view name) const {
  for (const Slot& slot : slots_)
    if (slot.name == name) return slot.value;
  std::vector<std::string> names;
  for (const Slot& slot : slots_) names.push_back(slot.name);
  throw InvalidArgument(format_message("[parameters] none of the {} parameters is named '{}'{}; str() lists them",
                                       names.size(), name, did_you_mean(name, names)));
}

int64_t Parameters::count() const {
  int64_t total = 0;
  for (const Slot& slot : slots_) total += slot.value.numel();
  return total;
}

std::string Parameters::str() const {
  size_t width = 5;
  for (const Slot& slot : slots_) width = std::max(width, slot.name.size());
  std::string text;
  const auto line = [&](const std::string& name, const std::string& shape, int64_t elements) {
    text += format_message("{}{}  {:>16}  {:>11}\n", name, std::string(width - name.size(), ' '), shape, elements);
  };
  for (const Slot& slot : slots_) line(slot.name, slot.value.shape().str(), slot.value.numel());
  line("total", "", count());
  return text;
}

void Parameters::reset(const Filter& filter, const Initializer& initializer) {
  for (const Slot* slot : chosen("reset", filter)) {
    const std::vector<double> start = initial_values(slot->name, slot->value.shape(), initializer);
    set_value(*slot, Tensor::from(std::span<const double>(start), slot->value.shape()));
  }
}

void Parameters::copy_values(const Parameters& from, const std::function<std::string(const std::string&)>& name_there) {
  std::vector<std::pair<const Slot*, Tensor>> pairs;
  std::string faults;
  for (const Slot& slot : slots_) {
    const std::string name = name_there ? name_there(slot.name) : slot.name;
    if (name.empty()) continue;
    const auto found = std::ranges::find(from.slots_, name, &Slot::name);
    if (found == from.slots_.end())
      faults += format_message("; {} is missing", name);
    else if (found->value.shape() != slot.value.shape())
      faults += format_message("; {} is {}, expected {}", name, found->value.shape().str(), slot.value.shape().str());
    else
      pairs.emplace_back(&slot, &from == this ? found->master.clone() : found->master);
  }
  LIBTRAIN_CHECK(
      faults.empty(),
      "[copy_values] the other store does not fit{}; build both models with the same options, or map the names",
      faults);
  for (const auto& [slot, value] : pairs) set_value(*slot, value);
}

Tensor Parameters::slice(const Tensor& flat, const Slot& slot) const {
  return flat.rows(slot.offset, slot.offset + slot.value.numel()).reshape(slot.value.shape());
}

void Parameters::clear_gradients() const {
  for (const Slot& slot : slots_) slot.value.clear_grad();
}

void Parameters::zero_unwritten_gradients() const {
  for (const Slot& slot : slots_)
    if (!slot.value.has_grad() && !slot.frozen) slice(gradients_, slot).fill(0);
}

void Parameters::mark_gradients_written() const {
  for (const Slot& slot : slots_) slot.value.node_handle()->grad_written = true;
}

void Parameters::adopt_gradients() const {
  for (const Slot& slot : slots_)
    if (slot.frozen) slice(gradients_, slot).fill(0);
  mark_gradients_written();
}

RandomState Parameters::random() const { return read_state<RandomState>(random_state_); }
void Parameters::set_random(RandomState state) const { write_state(random_state_, state); }
StepState Parameters::step() const { return read_state<StepState>(step_state_); }
View<StepState> Parameters::step_view() const {
  return {reinterpret_cast<StepState*>(step_state_.view<double>().data)};
}
void Parameters::set_step(const StepState& state) const { write_state(step_state_, state); }
void Parameters::open_update() const {
  const auto clear = [&](size_t offset, size_t bytes) {
    clear_bytes(step_state_.node_handle()->data + offset, device(), bytes);
  };
  clear(offsetof(StepState, loss_sum), sizeof(StepState::loss_sum));
  clear(offsetof(StepState, loss_count), sizeof(StepState::loss_count));
  clear(offsetof(StepState, skip), sizeof(StepState::skip));
}
void Parameters::set_random_step(uint64_t step) const { write_field(random_state_, offsetof(RandomState, step), step); }
void Parameters::set_learning_rate(double rate) const {
  write_field(step_state_, offsetof(StepState, learning_rate), rate);
}

}  // namespace libtrain
