/// What the kernels of the optimizers must do on any device.
#pragma once
#include <bit>
#include <cmath>

#include "compare.h"
#include "kernels/adam.h"
#include "kernels/clip_by_norm.h"
#include "kernels/clip_by_value.h"
#include "kernels/moving_average.h"
#include "kernels/sgd.h"

namespace libtrain::testing {

/// How a check updates the weights.
struct UpdateKind {
  const char* name;
  bool factors;  // units have rates and decays of their own, some are frozen
  double momentum = 0;
  bool adam = false, nesterov = false;
};
inline constexpr UpdateKind kUpdateKinds[] = {
    {.name = "adam", .factors = false, .adam = true},
    {.name = "adam in groups", .factors = true, .adam = true},
    {.name = "sgd", .factors = false},
    {.name = "sgd with momentum, in groups", .factors = true, .momentum = 0.9},
    {.name = "nesterov", .factors = false, .momentum = 0.9, .nesterov = true}};

/// The buffers of `size` weights, `first` elements away from an aligned address.
template <class T> struct FlatBuffers {
  int64_t size, first;
  Device where;
  Tensor weights, gradients, m, v, rounded, state, factors;

  FlatBuffers(int64_t count, int64_t offset, Device device) : size(count), first(offset), where(device) {
    weights = drawn(1, 1), gradients = drawn(2, 30), m = drawn(3, 0.1), v = drawn(4, 0.1);
    rounded = Tensor::full({first + size + 8}, 9, DType::bf16, where);
    set({.updates = 3, .learning_rate = 0.01, .loss_sum = 4, .loss_count = 10});
    std::vector<float> table;  // rate and decay of each unit: a third of them are frozen
    for (int64_t unit = 0; unit * kUpdateUnit < size; ++unit)
      for (const float factor : {float(unit % 3) / 2, float(unit % 4)}) table.push_back(factor);
    factors = Tensor::from(std::span<const float>(table), {int64_t(table.size())}, where);
  }
  Tensor drawn(uint64_t seed, double stddev) const {
    Values values(size_t(first + size + 8));
    Generator generator(seed);
    normal(stddev)(values, generator);
    if (seed == 4)
      for (double& value : values) value = std::abs(value);
    return Tensor::from(std::span<const double>(values), {first + size + 8}).cast(dtype_of<T>).to(where);
  }
  void set(const StepState& step) {
    state = Tensor::from(std::span(reinterpret_cast<const int64_t*>(&step), 8), {8}, where);
  }
  StepState step() const {
    StepState step;
    const auto words = state.to_vector<int64_t>();
    std::copy(words.begin(), words.end(), reinterpret_cast<int64_t*>(&step));
    return step;
  }
  template <class E> View<E> part(const Tensor& tensor) const {
    return {tensor.view<E>().data + first, {size, 1, 1, 1}};
  }
  View<StepState> state_view() const { return {reinterpret_cast<StepState*>(state.view<int64_t>().data)}; }

  void clip(double max_norm) const {
    on(where, [&](auto device) {
      const Tensor workspace({kernels::clip_workspace(device, size)}, DType::f64, where);
      kernels::clip_by_norm(
          device, kernels::ClipByNorm<T>{part<const T>(gradients), workspace.view<double>(), state_view(), max_norm});
    });
  }
  View<const UpdateFactors> factors_view(bool wanted) const {
    if (!wanted) return {};
    return {reinterpret_cast<const UpdateFactors*>(factors.view<float>().data), {factors.numel() / 2, 1, 1, 1}};
  }
  void update(bool rounds, const UpdateKind& kind = kUpdateKinds[0]) const {
    const View<bf16> to = rounds ? part<bf16>(rounded) : View<bf16>{};
    const kernels::Adam<T> adam{.weights = part<T>(weights),
                                .first_moment = part<T>(m),
                                .second_moment = part<T>(v),
                                .gradients = part<const T>(gradients),
                                .state = state_view(),
                                .beta1 = 0.9,
                                .beta2 = 0.98,
                                .epsilon = 1e-9,
                                .weight_decay = 0.1,
                                .rounded = to,
                                .factors = factors_view(kind.factors)};
    const kernels::Sgd<T> sgd{.weights = part<T>(weights),
                              .velocity = part<T>(m),
                              .gradients = part<const T>(gradients),
                              .state = state_view(),
                              .momentum = kind.momentum,
                              .weight_decay = 0.1,
                              .nesterov = kind.nesterov,
                              .rounded = to,
                              .factors = factors_view(kind.factors)};
    on(where, [&](auto device) { kind.adam ? kernels::adam_update(device, adam) : kernels::sgd_update(device, sgd); });
  }
  void clip_values(double max_value) const {
    const kernels::ClipByValue<T> args{part<T>(gradients), state_view(), max_value};
    on(where, [&](auto device) { kernels::clip_by_value(device, args); });
  }
  /// Of the weights, into m.
  void average(double decay) const {
    const kernels::MovingAverage<T> args{part<T>(m), part<const T>(weights), state_view(), decay};
    on(where, [&](auto device) { kernels::moving_average(device, args); });
  }
};

/// What stands beside the buffers must stay, and each weight must have been rounded as it is, unless its unit is frozen.
template <class T> void check_rounded(const FlatBuffers<T>& flat, bool rounds, bool factors) {
  const auto bits = flat.rounded.template to_vector<bf16>();
  const auto weights = flat.weights.template to_vector<T>();
  int64_t wrong = 0;
  for (int64_t i = 0; i < int64_t(bits.size()); ++i) {
    const bool frozen = factors && (i - flat.first) / kUpdateUnit % 3 == 0;
    const bool mine = rounds && i >= flat.first && i < flat.first + flat.size && !frozen;
    wrong += float(bits[size_t(i)]) != float(mine ? bf16(float(weights[size_t(i)])) : bf16(9.0f));
  }
  CHECK(wrong == 0);
}

/// Norm and scale are those of the gradients, by their definitions, for a limit of 0.5 and 10 targets.
template <class T> void check_norm(const FlatBuffers<T>& flat) {
  double squares = 0;
  const Values gradients = values_of(flat.gradients.rows(flat.first, flat.first + flat.size));
  for (const double gradient : gradients) squares += gradient * gradient;
  const double norm = std::sqrt(squares) / 10, scale = (norm > 0.5 ? 0.5 / norm : 1) / 10;
  const StepState step = flat.step();
  CHECK(std::abs(step.gradient_norm - norm) <= 1e-12 * norm);
  CHECK(std::abs(step.gradient_scale - scale) <= 1e-12 * scale);
}

template <class T> void check_update(Device where, const UpdateKind& kind, int64_t size, int64_t first, bool rounds) {
  INFO(kind.name << ", " << name(where) << " " << name(dtype_of<T>) << ": " << size << " weights from " << first
                 << ", rounds " << rounds);
  const double u = std::is_same_v<T, float> ? 0x1p-23 : 0x1p-52;
  FlatBuffers<T> actual(size, first, where), expected(size, first, Device::kCpu);
  for (FlatBuffers<T>* flat : {&actual, &expected}) {
    // Norm, scale and skip are those of the update before.
    flat->set({.updates = 3,
               .learning_rate = 0.01,
               .loss_sum = 4,
               .loss_count = 10,
               .gradient_norm = 7,
               .gradient_scale = 5,
               .skip = 1});
    flat->clip(0.5);
    flat->update(rounds, kind);
  }
  check_norm(expected);
  const StepState a = actual.step(), e = expected.step();
  CHECK(std::abs(a.gradient_norm - e.gradient_norm) <= 1e-14 * e.gradient_norm);
  CHECK(std::abs(a.gradient_scale - e.gradient_scale) <= 1e-14 * e.gradient_scale);
  CHECK(std::tuple(a.updates, a.skipped_updates, a.loss_sum, a.loss_count, a.skip) == std::tuple(4, 0, 0, 0, 0));
  CHECK(worst_difference(actual.m, expected.m) <= 4 * u);
  CHECK(worst_difference(actual.v, expected.v) <= 4 * u);
  CHECK(worst_difference(actual.weights, expected.weights) <= 32 * u);
  check_rounded(actual, rounds, kind.factors);
}

/// The CPU is followed at any size and alignment.
inline void check_updates(Device where) {
  const int64_t violations = allocator_stats(where).guard_violations;
  set_allocator_guards(true);  // nothing is written outside of the workspace
  for (const UpdateKind& kind : kUpdateKinds)
    for (const int64_t size : {1, 31, 4096, 8003, 70000})
      for (const int64_t first : {0, 1, 4})
        for (const bool rounds : {false, true}) {
          check_update<float>(where, kind, size, first, rounds);
          check_update<double>(where, kind, size, first, rounds);
        }
  set_allocator_guards(false);
  CHECK(allocator_stats(where).guard_violations == violations);
}

/// The averages that moving_average must have left, by its formula; what stands beside them must stay.
template <class T> void check_average(const FlatBuffers<T>& flat, const Values& before, double decay) {
  const Values after = values_of(flat.m), weights = values_of(flat.weights);
  const double keeps = std::min(decay, 4.0 / 13);  // after 3 updates
  double most = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const bool mine = int64_t(i) >= flat.first && int64_t(i) < flat.first + flat.size;
    const double expected = mine ? before[i] + (1 - keeps) * (weights[i] - before[i]) : before[i];
    most = std::max(most, std::abs(after[i] - expected));
  }
  CHECK(most <= (std::is_same_v<T, float> ? 0x1p-21 : 0x1p-50));
}

/// clip_by_value and moving_average, likewise.
template <class T> void check_pointwise(Device where, int64_t size, int64_t first) {
  INFO(name(where) << " " << name(dtype_of<T>) << ": " << size << " weights from " << first);
  const FlatBuffers<T> actual(size, first, where), expected(size, first, Device::kCpu);
  for (const FlatBuffers<T>* flat : {&actual, &expected}) {
    if (size > 2)
      flat->gradients.rows(first, first + 1).fill(NAN), flat->gradients.rows(first + 1, first + 2).fill(INFINITY);
    flat->clip_values(2);
    const Values before = values_of(flat->m);
    flat->average(0.9);
    check_average(*flat, before, 0.9);
  }
  const Values g = values_of(actual.gradients), e = values_of(expected.gradients);
  const auto from = size_t(first), to = size_t(first + size);
  int64_t wrong = 0, limited = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    const bool finite = std::isfinite(g[i]);
    wrong += finite ? g[i] != e[i] : std::isfinite(e[i]);
    if (i >= from && i < to && finite) wrong += std::abs(g[i]) > 20, limited += std::abs(g[i]) == 20;
  }
  CHECK(wrong == 0);
  CHECK(limited * 4 >= size - 31);  // half of them lie beyond 20
  CHECK(worst_difference(actual.m, expected.m) <= (std::is_same_v<T, float> ? 0x1p-22 : 0x1p-51));
}
inline void check_pointwise(Device where) {
  for (const int64_t size : {1, 31, 4096, 8003, 70000})
    for (const int64_t first : {0, 1}) {
      check_pointwise<float>(where, size, first);
      check_pointwise<double>(where, size, first);
    }
}

/// More blocks than partial sums.
inline void check_long_norm(Device where) {
  const int64_t size = (kernels::kClipSums + 3) * kernels::kClipBlock + 5;
  const Tensor ones = Tensor::full({size}, 1, DType::f32, where), state = Tensor::zeros({8}, DType::i64, where);
  const View<StepState> step{reinterpret_cast<StepState*>(state.view<int64_t>().data)};
  on(where, [&](auto device) {
    const Tensor workspace({kernels::clip_workspace(device, size)}, DType::f64, where);
    kernels::clip_by_norm(device,
                          kernels::ClipByNorm<float>{ones.view<const float>(), workspace.view<double>(), step, 0});
  });
  const auto words = state.to_vector<int64_t>();
  CHECK(std::bit_cast<double>(words[5]) == std::sqrt(double(size)));
}

/// Skip changes nothing but the counts.
inline void check_skip(Device where, const UpdateKind& kind) {
  for (const double bad : {double(NAN), double(INFINITY), 0.0}) {
    INFO(name(where) << ": gradient " << bad << ", " << kind.name);
    FlatBuffers<float> flat(8003, 0, where);
    const int64_t targets = bad == 0.0 ? 0 : 10;  // the third case: a finite gradient of no target
    flat.set({.updates = 3, .learning_rate = 0.01, .loss_sum = 4, .loss_count = targets});
    if (targets) flat.gradients.rows(8000, 8001).fill(bad);
    const Tensor weights = flat.weights.clone(), m = flat.m.clone(), v = flat.v.clone();
    flat.clip(1);
    flat.update(true, kind);
    CHECK(worst_difference(flat.weights, weights) == 0);
    CHECK(worst_difference(flat.m, m) == 0);
    flat.average(0.9);
    CHECK(worst_difference(flat.m, m) == 0);
    CHECK(worst_difference(flat.v, v) == 0);
    CHECK(values_of(flat.rounded) == Values(8011, 9));
    const StepState step = flat.step();
    CHECK(std::tuple(step.updates, step.skipped_updates, step.skip) == std::tuple(3, targets ? 1 : 0, 1));
    CHECK(std::tuple(step.loss_sum, step.loss_count) == std::tuple(0.0, 0));
  }
}

inline void check_skip(Device where) {
  for (const UpdateKind& kind : kUpdateKinds) check_skip(where, kind);
}

}  // namespace libtrain::testing
