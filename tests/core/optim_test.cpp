/// Optimizers, groups, averages and schedules as functions of a parameter store, against plain formulas.
#include <cmath>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain {
using test::message_of;
namespace {

/// Gradients of a mean, and the rate of the update to come.
void set_gradients(const Parameters& parameters, const std::vector<double>& values, double rate) {
  parameters.clear_gradients();
  for (size_t i = 0; i < values.size(); ++i)
    if (const auto sink = parameters.slots()[i].value.grad_sink<double>()) sink.data[0] = values[i];
  StepState state = parameters.step();
  state.loss_count = 1;
  state.learning_rate = rate;
  parameters.set_step(state);
}

/// A store in f64 with the weights 0.5, 0.25 and -0.75, each a parameter of its own: "a.weight", "b.weight", "b.bias".
struct Three {
  Parameters parameters;
  explicit Three(bool average = false) : parameters({.dtype = DType::f64, .average = average}) {
    parameters.add("a.weight", {1, 1}, init::constant(0.5));
    parameters.add("b.weight", {1, 1}, init::constant(0.25));
    parameters.add("b.bias", {1}, init::constant(-0.75));
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const auto& slot : parameters.slots()) all.push_back(slot.value.item());
    return all;
  }
};

bool is_vector(const Parameters::Slot& slot) { return slot.value.rank() < 2; }
Parameters::Filter below(const std::string& prefix) {
  return [prefix](const Parameters::Slot& slot) { return slot.name.starts_with(prefix); };
}

}  // namespace

TEST_CASE(
    "optim: at the bounds of its options, Adam keeps f32 weights finite, and those without a gradient as they are",
    "[optim]") {
  for (const AdamOptions& options :
       {AdamOptions{.epsilon = 1e-30}, AdamOptions{.epsilon = 9e29}, AdamOptions{.beta1 = 0.9999999},
        AdamOptions{.beta2 = 0.9999999}, AdamOptions{.beta1 = 0, .beta2 = 0, .epsilon = 1e-30}}) {
    check_options(options);
    Parameters parameters;
    const Tensor w = parameters.add("w", {2}, init::constant(0.5));
    for (int update = 0; update < 3; ++update) {
      Tape tape;
      tape.backward(sum(mul(w, Tensor::from({1.0f, 0.0f}, {2}))));
      apply_update(parameters, adam(options));
    }
    const auto values = w.to_vector<float>();
    INFO("beta1 " << options.beta1 << ", beta2 " << options.beta2 << ", epsilon " << options.epsilon);
    CHECK(std::abs(values[0] - 0.5f) < 0.01f);
    CHECK(values[1] == 0.5f);
  }
}

TEST_CASE("optim: groups have rates and decays of their own, in one call", "[optim]") {
  const AdamOptions options{.weight_decay = 0.5};
  Three grouped;
  grouped.parameters.set_group(is_vector, {.decay = 0});
  grouped.parameters.set_group(below("b."), {.rate = 0.25});  // and b.bias still has no decay
  const std::vector<double> rates{1, 0.25, 0.25}, decays{1, 1, 0};
  std::vector<double> w = grouped.values(), m(3), v(3);
  for (int t = 1; t <= 4; ++t) {
    set_gradients(grouped.parameters, {1.0 * t, -2.0, 0.5}, 0.1);
    clip_by_norm(grouped.parameters, 0);
    adam_update(grouped.parameters, options);
    const std::vector<double> g{1.0 * t, -2.0, 0.5};
    for (size_t i = 0; i < 3; ++i) {
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g[i];
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g[i] * g[i];
      const double direction =
          m[i] / (1 - std::pow(options.beta1, t)) / (std::sqrt(v[i] / (1 - std::pow(options.beta2, t))) + 1e-9);
      w[i] -= 0.1 * rates[i] * (0.5 * decays[i] * w[i] + direction);
      CHECK(std::abs(grouped.values()[i] - w[i]) < 1e-14);
    }
  }
}

TEST_CASE("optim: a group that is changed between updates has its new rate from the next one on", "[optim]") {
  Three three;
  double expected = 0.5;
  for (const double rate : {2.0, 0.5, 4.0}) {
    three.parameters.set_group(below("a."), {.rate = rate});
    set_gradients(three.parameters, {1, 1, 1}, 0.125);
    clip_by_norm(three.parameters, 0);
    sgd_update(three.parameters, {});
    CHECK(three.values()[0] == (expected -= 0.125 * rate));
  }
}

TEST_CASE("optim: sgd follows its formulas, with momentum, decay and looking ahead", "[optim]") {
  for (const bool nesterov : {false, true})
    for (const double momentum : {0.0, 0.9}) {
      if (nesterov && momentum == 0) continue;
      Three three;
      three.parameters.set_group(is_vector, {.rate = 2, .decay = 0});
      std::vector<double> w = three.values(), v(3);
      for (int t = 1; t <= 4; ++t) {
        const std::vector<double> gradients{1.0 * t, -2.0, 0.5};
        set_gradients(three.parameters, gradients, 0.1);
        clip_by_norm(three.parameters, 0);
        sgd_update(three.parameters, {.momentum = momentum, .weight_decay = 0.25, .nesterov = nesterov});
        for (size_t i = 0; i < 3; ++i) {
          const double g = gradients[i] + (i == 2 ? 0 : 0.25) * w[i];
          v[i] = momentum * v[i] + g;
          w[i] -= 0.1 * (i == 2 ? 2 : 1) * (nesterov ? g + momentum * v[i] : v[i]);
          CHECK(std::abs(three.values()[i] - w[i]) < 1e-14);
        }
      }
      CHECK(three.parameters.step().updates == 4);
      CHECK(three.parameters.moments() == (momentum > 0));
    }
}

TEST_CASE("optim: frozen parameters keep value and moments, get no gradient and do not count in the norm", "[optim]") {
  for (const bool adam : {true, false}) {
    Three three;
    Parameters& parameters = three.parameters;
    const auto update = [&] {
      clip_by_norm(parameters, 0);
      adam ? adam_update(parameters, {.weight_decay = 0.5}) : sgd_update(parameters, {.momentum = 0.9});
    };
    set_gradients(parameters, {3, 4, 12}, 0.1);
    update();
    CHECK(parameters.step().gradient_norm == 13);
    const auto before = three.values();
    const auto moments = parameters.first_moment().to_vector<double>();
    parameters.freeze(is_vector);
    CHECK_FALSE(parameters.get("b.bias").requires_grad());
    set_gradients(parameters, {3, 4, 12}, 0.1);
    update();
    CHECK(parameters.step().gradient_norm == 5);
    CHECK(three.values()[2] == before[2]);
    CHECK(three.values()[0] != before[0]);
    CHECK(parameters.first_moment().to_vector<double>()[64] == moments[64]);
    CHECK(parameters.first_moment().to_vector<double>()[0] != moments[0]);
    parameters.unfreeze(is_vector);
    set_gradients(parameters, {3, 4, 12}, 0.1);
    update();
    CHECK(parameters.step().gradient_norm == 13);
    CHECK(three.values()[2] != before[2]);
  }
}

TEST_CASE("optim: parameters that are added after the groups were made are treated as all", "[optim]") {
  Three three;
  three.parameters.set_group(below("a."), {.rate = 0.5});
  const Tensor late = three.parameters.add("late", {70}, init::constant(1));
  set_gradients(three.parameters, {1, 1, 1}, 0.1);
  late.grad_sink<double>();
  three.parameters.slice(three.parameters.gradients(), three.parameters.slots()[3]).fill(1);
  clip_by_norm(three.parameters, 0);
  sgd_update(three.parameters, {});
  CHECK(std::abs(three.parameters.get("a.weight").item() - 0.45) < 1e-15);
  CHECK(std::abs(late.to_vector<double>()[69] - 0.9) < 1e-15);
}

TEST_CASE("optim: clip_by_value limits the mean gradient, element by element", "[optim]") {
  Three three;
  set_gradients(three.parameters, {30, -50, 4}, 0.1);
  StepState state = three.parameters.step();
  state.loss_count = 10;
  three.parameters.set_step(state);
  clip_by_value(three.parameters, 3.5);
  const auto clipped = three.parameters.gradients().to_vector<double>();
  CHECK(std::vector<double>{clipped[0], clipped[32], clipped[64]} == std::vector<double>{30, -35, 4});
  CHECK(message_of<InvalidArgument>([&] { clip_by_value(three.parameters, 0); }) ==
        "[clip_by_value] max_value must be > 0, got 0; leave the call out to clip nothing");
}

TEST_CASE("optim: the average follows the weights, is shown on demand, and learns nothing from skipped updates",
          "[optim]") {
  Three three(true);
  std::vector<double> w = three.values(), average = w;
  for (int t = 1; t <= 30; ++t) {
    set_gradients(three.parameters, {1.0 * t, -2.0, t == 7 ? NAN : 0.5}, 0.1);
    clip_by_norm(three.parameters, 0);
    sgd_update(three.parameters, {});
    update_average(three.parameters, 0.5);
    if (t == 7) continue;
    const double updates = t > 7 ? t - 1 : t, keep = std::min(0.5, (1 + updates) / (10 + updates));
    for (size_t i = 0; i < 3; ++i) average[i] = keep * average[i] + (1 - keep) * three.values()[i];
  }
  w = three.values();
  {
    const AveragedWeights shown(three.parameters);
    for (size_t i = 0; i < 3; ++i) CHECK(std::abs(three.values()[i] - average[i]) < 1e-13);
    const test::TemporaryFile place("");
    const auto refused = [&](auto&& call) {
      return message_of<InvalidArgument>(call).find("the store shows the average of its weights") != std::string::npos;
    };
    CHECK(refused([&] { sgd_update(three.parameters, {}); }));
    CHECK(refused([&] { adam_update(three.parameters, {}); }));
    CHECK(refused([&] { update_average(three.parameters, 0.5); }));
    CHECK(refused([&] { save_checkpoint(place.folder(), three.parameters, {}); }));
    CHECK(refused([&] { load_checkpoint(place.folder(), three.parameters); }));
    CHECK(refused([&] { load_weights(place.folder() + "/weights", three.parameters); }));
    CHECK_NOTHROW(save_weights(place.folder() + "/weights", three.parameters));
  }
  CHECK(three.values() == w);
  Three without;
  CHECK(message_of<InvalidArgument>([&] { update_average(without.parameters, 0.5); }) ==
        "[moving_average] the store keeps no average; make it with .average = true");
  CHECK(message_of<InvalidArgument>([&] { without.parameters.swap_average(); }) ==
        "[parameters] no average is kept; make the store with .average = true");
  CHECK_THROWS_AS(update_average(three.parameters, 1), InvalidArgument);
}

TEST_CASE("optim: with mixed precision, averaged weights are shown rounded", "[optim]") {
  Parameters parameters({.mixed_precision = true, .average = true});
  const Tensor w = parameters.add("w", {40}, init::constant(1));
  parameters.average().fill(0.1);
  const int64_t revision = parameters.revision();
  {
    const AveragedWeights shown(parameters);
    CHECK(parameters.revision() != revision);
    CHECK(w.cast(DType::f32).to_vector<float>()[39] == float(bf16(0.1f)));
  }
  CHECK(parameters.revision() == revision);
  CHECK(w.cast(DType::f32).to_vector<float>()[39] == 1);
}

TEST_CASE("optim: what cannot be is refused by name", "[optim]") {
  Three three;
  const auto refused = [&](const Parameters::Filter& filter, const GroupOptions& options) {
    return message_of<InvalidArgument>([&] { three.parameters.set_group(filter, options); });
  };
  CHECK(refused(below("c."), {}) == "[set_group] none of the 3 parameters is chosen; Parameters::str() lists them");
  CHECK(refused(is_vector, {.rate = 0}) == "[set_group] rate must be > 0 and < 1e30 (to stop updates: freeze), got 0");
  CHECK(refused(is_vector, {.decay = -1}) == "[set_group] decay must be >= 0 and < 1e30, got -1; 0 turns it off");
  CHECK(message_of<InvalidArgument>([&] { three.parameters.freeze(below("c.")); }) ==
        "[freeze] none of the 3 parameters is chosen; Parameters::str() lists them");
  CHECK(message_of<InvalidArgument>([] { sgd({.learning_rate = 0}); }) ==
        "[sgd] learning_rate must be > 0 and < 1e30, got 0; 1e-2 is a usual start");
  CHECK(message_of<InvalidArgument>([] { sgd({.momentum = 1}); }) ==
        "[sgd] momentum must be in [0, 0.9999999], got 1; 0 turns it off, 0.9 is usual");
  CHECK(message_of<InvalidArgument>([] { sgd({.weight_decay = -1}); }) ==
        "[sgd] weight_decay must be >= 0 and < 1e30, got -1; 0 turns it off");
  CHECK(message_of<InvalidArgument>([] { sgd({.nesterov = true}); }) ==
        "[sgd] nesterov needs momentum > 0, got 0; 0.9 is usual");
}

TEST_CASE("schedules: pieces, joined and multiplied", "[optim]") {
  using namespace schedule;
  CHECK(constant(0.3)(7) == 0.3);
  CHECK(warmup(4)(1) == 0.25);
  CHECK(warmup(4)(4) == 1);
  CHECK(warmup(0)(1) == 1);
  CHECK(linear(1, 0.5, 10)(5) == 0.75);
  CHECK(linear(1, 0.5, 10)(11) == 0.5);
  CHECK(std::abs(cosine(1, 0.5, 10)(5) - 0.75) < 1e-15);
  CHECK(cosine(1, 0.5, 10)(99) == 0.5);
  CHECK(inverse_sqrt(4)(3) == 1);
  CHECK(inverse_sqrt(4)(16) == 0.5);
  const Schedule stairs = step(3, 0.5);
  CHECK(std::vector<double>{stairs(1), stairs(3), stairs(4), stairs(6), stairs(7)} ==
        std::vector<double>{1, 1, 0.5, 0.5, 0.25});
  const Schedule joined = then(warmup(4), 4, then(constant(2), 2, linear(1, 0, 4)));
  CHECK(std::vector<double>{joined(2), joined(4), joined(5), joined(6), joined(7), joined(10)} ==
        std::vector<double>{0.5, 1, 2, 2, 0.75, 0});
  CHECK(times(constant(3), stairs)(4) == 1.5);
  CHECK(message_of<InvalidArgument>([] { step(0, 0.5); }) ==
        "[schedule::step] every must be >= 1, got 0; it is a number of updates");
  CHECK(message_of<InvalidArgument>([] { linear(1, 0, 0); }) ==
        "[schedule::linear] updates must be >= 1, got 0; it is a number of updates");
  CHECK_THROWS_AS(cosine(1, 0, 0), InvalidArgument);
  CHECK_THROWS_AS(inverse_sqrt(0), InvalidArgument);
  CHECK_THROWS_AS(warmup(-1), InvalidArgument);
  CHECK_THROWS_AS(then(warmup(1), -1, warmup(1)), InvalidArgument);
  CHECK_THROWS_AS(times(nullptr, warmup(1)), InvalidArgument);
}

}  // namespace libtrain
