/// What an optimizer keeps in a store, and what it is told of single parameters.
#include <algorithm>
#include <iterator>

#include "libtrain/cuda.h"
#include "libtrain/parameters.h"

namespace libtrain {

int64_t Parameters::moments() const { return std::ranges::count_if(moments_, &Tensor::defined); }

Tensor Parameters::moment(int64_t number) const {
  LIBTRAIN_CHECK(number >= 0, "[parameters] moments are numbered from 0, got {}", number);
  if (number >= moments()) keep_moments(number + 1);
  return moments_[size_t(number)].rows(0, used_);
}

/// All that are missing or none: the memory may not be there.
void Parameters::keep_moments(int64_t count) const {
  LIBTRAIN_CHECK(count >= 0 && count <= std::ssize(moments_),
                 "[parameters] a store keeps 0 to 2 moments, got {}; an optimizer may keep more in tensors of its own",
                 count);
  if (count == moments()) return;
  if (count > moments() && device() == Device::kCuda && cuda::is_capturing())
    throw DeviceError(
        "[parameters] moments cannot be made in captured work: each launch would begin them anew; call keep_moments() "
        "before");
  auto kept = moments_;
  for (int64_t i = 0; i < std::ssize(kept); ++i) {
    Tensor& moment = kept[size_t(i)];
    const MemoryUseScope scope(MemoryUse::kOptimizer);
    if (i >= count) moment = Tensor();
    if (i >= count || moment.defined()) continue;
    moment = Tensor::zeros({capacity_}, options_.dtype, options_.device);
  }
  moments_ = std::move(kept);
  ++changes_;
}

void Parameters::set_optimizer(const OptimizerInfo& optimizer) const {
  LIBTRAIN_CHECK(!optimizer_ || optimizer_->name == optimizer.name,
                 "[optimizer] the moments of this store are those of {}, from which {} cannot go on; go on with {}, or "
                 "call forget_optimizer() to begin with {} from these weights",
                 optimizer_->name, optimizer.name, optimizer_->name, optimizer.name);
  keep_moments(optimizer.moments);
  optimizer_ = optimizer;
}

void Parameters::forget_optimizer() {
  keep_moments(0);
  optimizer_.reset();
  StepState state = step();
  state.updates = state.skipped_updates = 0;
  set_step(state);
}

void Parameters::set_group(const Filter& filter, const GroupOptions& options) {
  const double rate = options.rate.value_or(1), decay = options.decay.value_or(1);
  LIBTRAIN_CHECK(rate > 0 && rate < 1e30, "[set_group] rate must be > 0 and < 1e30 (to stop updates: freeze), got {}",
                 rate);
  LIBTRAIN_CHECK(decay >= 0 && decay < 1e30, "[set_group] decay must be >= 0 and < 1e30, got {}; 0 turns it off",
                 decay);
  for (Slot* slot : chosen("set_group", filter)) {
    if (options.rate) slot->factors.rate = float(rate);
    if (options.decay) slot->factors.decay = float(decay);
  }
  alike_ = false;
  factors_ = Tensor();
  ++changes_;
}

void Parameters::set_frozen(const Filter& filter, bool frozen) {
  for (Slot* slot : chosen(frozen ? "freeze" : "unfreeze", filter)) {
    slot->frozen = frozen;
    slot->value.clear_grad();
    slot->value.set_requires_grad(!frozen);
    slice(gradients_, *slot).fill(0);
  }
  alike_ = false;
  factors_ = Tensor();
  ++changes_;
}

View<const UpdateFactors> Parameters::update_factors() const {
  if (alike_ || used_ == 0) return {};
  const int64_t units = used_ / kUpdateUnit;
  if (!factors_.defined()) {
    std::vector<UpdateFactors> table(static_cast<size_t>(units));
    for (size_t i = 0; i < slots_.size(); ++i) {
      const int64_t end = i + 1 < slots_.size() ? slots_[i + 1].offset : used_;
      UpdateFactors factors = slots_[i].factors;
      if (slots_[i].frozen) factors.rate = 0;
      std::fill(table.begin() + slots_[i].offset / kUpdateUnit, table.begin() + end / kUpdateUnit, factors);
    }
    const Tensor factors({units, 2}, DType::f32, options_.device);
    copy_bytes(factors.node_handle()->data, device(), table.data(), Device::kCpu, table.size() * sizeof(UpdateFactors));
    factors_ = factors;
  }
  return {reinterpret_cast<const UpdateFactors*>(factors_.view<float>().data), {units, 1, 1, 1}};
}

}  // namespace libtrain
