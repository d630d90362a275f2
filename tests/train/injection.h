/// One value of a training step that is made NaN or infinite, and what must not follow from it.
#pragma once
#include <cmath>
#include <cstring>
#include <limits>

#include "catch.h"
#include "libtrain/nonfinite.h"
#include "train/toy.h"

namespace libtrain::testing {

/// A tensor that a step computes: an output of an operation, or the gradient of an input as its backward has left it.
struct InjectionPoint {
  std::string operation;
  int64_t index = 0;
  bool backward = false;
  size_t tensor = 0;

  std::string str() const {
    return format_message("{} {} of {} ({})", backward ? "gradient" : "output", tensor, operation, index);
  }
};

/// Tells all tensors that a step computes. Not those that are a part of the weights under another name: made NaN they would be weights made NaN.
class PointList : public TapeObserver {
 public:
  explicit PointList(const Parameters& parameters) : parameters_(parameters) {}

  void forward(const Operation& operation) override {
    for (size_t i = 0; i < operation.outputs.size(); ++i)
      if (is_float(operation.outputs[i].dtype()) && !is_weight(operation.outputs[i]))
        points.push_back({operation.name, operation.index, false, i});
  }
  void backward(const Operation& operation) override {
    for (size_t i = 0; i < operation.inputs.size(); ++i)
      if (operation.inputs[i].defined() && operation.inputs[i].has_grad())
        points.push_back({operation.name, operation.index, true, i});
  }
  std::vector<InjectionPoint> points;

 private:
  bool is_weight(const Tensor& tensor) const {
    const auto storage = [](const Tensor& of) { return of.node_handle()->storage.get(); };
    return storage(tensor) == storage(parameters_.values()) ||
           (parameters_.rounded_values().defined() && storage(tensor) == storage(parameters_.rounded_values()));
  }

  const Parameters& parameters_;
};

/// What is overwritten. Dropout may drop the one element, and then rightly nothing comes of it.
enum class Extent { kMiddleElement, kWhole };

/// Overwrites that tensor, whenever a mini-batch runs whose number `bad` accepts: a repeated one too.
class Injection : public TapeObserver {
 public:
  Injection(const Parameters& parameters, InjectionPoint point, double value, std::function<bool(uint64_t)> bad,
            Extent extent = Extent::kWhole)
      : parameters_(parameters), point_(std::move(point)), value_(value), bad_(std::move(bad)), extent_(extent) {}

  void forward(const Operation& operation) override {
    if (operation.index == point_.index && !point_.backward) inject(operation.outputs[point_.tensor]);
  }
  void backward(const Operation& operation) override {
    if (operation.index == point_.index && point_.backward) inject(operation.inputs[point_.tensor].grad());
  }

 private:
  void inject(const Tensor& tensor) const {
    if (!bad_(parameters_.random().step)) return;
    const int64_t at = (tensor.numel() - 1) / 2;
    const Tensor flat = tensor.reshape({tensor.numel()});
    (extent_ == Extent::kWhole ? flat : flat.rows(at, at + 1)).fill(value_);
  }

  const Parameters& parameters_;
  InjectionPoint point_;
  double value_;
  std::function<bool(uint64_t)> bad_;
  Extent extent_;
};

/// Everything that an update changes, bit for bit.
inline std::vector<float> trained_state(const Parameters& parameters) {
  std::vector<float> state;
  for (const Tensor& buffer :
       {parameters.values(), parameters.first_moment(), parameters.second_moment(), parameters.average()}) {
    if (!buffer.defined()) continue;
    const auto values = buffer.to_vector<float>();
    state.insert(state.end(), values.begin(), values.end());
  }
  return state;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline const double kNotFinite[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                                    -std::numeric_limits<double>::infinity()};

/// count_nonfinite() on tensors of every dtype and of sizes with tails, which begin so many elements behind an aligned address.
inline void check_counting(Device device, int64_t behind, std::initializer_list<int64_t> sizes) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const int64_t size : sizes) {
      INFO(name(dtype) << " " << size);
      const Tensor values = Tensor::full({behind + size}, 3, dtype, device).rows(behind, behind + size);
      CHECK_FALSE(count_nonfinite(values));
      values.rows(size - 1, size).fill(kNotFinite[2]);
      values.rows(0, size / 2).fill(kNotFinite[0]);
      const NonFiniteCount count = count_nonfinite(values);
      CHECK(count.nan == size / 2);
      CHECK(count.infinite == 1);
    }
  CHECK_FALSE(count_nonfinite(Tensor::zeros({0}, DType::f32, device)));
}

/// Steps of one and the same mini-batch, the first of which goes wrong. With GELU: ReLU makes 0 of -infinity, and of any gradient of what is 0.
struct InjectedRun {
  std::vector<Pair> pairs;
  ToyRun run;

  InjectedRun(const ParametersOptions& store, float dropout, const std::optional<Optimizer>& optimizer = {})
      : pairs(reversal_pairs(4)),
        run(pairs, {.epochs = 2, .clip_norm = 1, .optimizer = optimizer, .average_decay = 0.5}, dropout, store,
            {.pairs = 4, .shuffle = false}, Activation::kGelu) {}

  static std::vector<InjectionPoint> points(const ParametersOptions& store, float dropout) {
    InjectedRun calm(store, dropout);
    PointList list(calm.run.parameters);
    calm.run.loop.step();
    return list.points;
  }
};

/// What is wrong after the point was made `value` in the first step; "" when all is as promised: nothing changed, the step is counted as
/// skipped, the operation is named, and the second step trains.
inline std::string fault_after(const InjectionPoint& point, double value, const ParametersOptions& store, Extent extent,
                               const std::optional<Optimizer>& optimizer = {}) {
  InjectedRun injected(store, extent == Extent::kWhole ? 0.1f : 0, optimizer);
  ToyRun& run = injected.run;
  const Injection injection(
      run.parameters, point, value, [](uint64_t step) { return step == 0; }, extent);
  std::vector<NonFiniteReport> reports;
  std::vector<bool> skipped;
  run.loop.on_nonfinite([&](const NonFiniteReport& report) { reports.push_back(report); });
  run.loop.on_step([&](const StepReport& report) { skipped.push_back(report.skipped); });
  const auto before = trained_state(run.parameters);
  run.loop.step();
  std::string faults;
  const auto expect = [&](bool holds, const std::string& what) {
    if (!holds) faults += (faults.empty() ? "" : "; ") + what;
  };
  const auto after = trained_state(run.parameters);
  expect(same_bits(before, after), "weights, moments or average changed");
  expect(run.parameters.step().skipped_updates == 1, "not counted as skipped");
  run.loop.step();
  run.loop.step();
  expect(skipped == std::vector<bool>{true, false}, "skipped steps are not those that were told");
  expect(reports.size() == 1, format_message("{} reports", reports.size()));
  if (reports.size() == 1) {
    const auto& found = reports[0].operation;
    expect(found && found->name == point.operation && found->index == point.index && found->backward == point.backward,
           "the operation is not that of: " + reports[0].str());
    expect(found && found->cause.empty(), "it is said to have been given what it made: " + reports[0].str());
    expect(!reports[0].parameters.empty() || !std::isfinite(reports[0].loss), "no parameter is named");
  }
  expect(!same_bits(after, trained_state(run.parameters)), "the next step changed nothing");
  for (const float x : trained_state(run.parameters))
    if (x - x != 0) return faults + "; something is not finite in the end";
  return faults;
}

}  // namespace libtrain::testing
