#include <cmath>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain {
using test::message_of;

TEST_CASE("parameters: named slices of flat buffers that move when the store grows", "[parameters]") {
  Parameters parameters;
  const Tensor a = parameters.add("a", {3}, init::constant(1));
  const auto first_place = a.node_handle()->data;
  for (int i = 0; i < 50; ++i) parameters.add("p" + std::to_string(i), {100}, init::constant(i));
  CHECK(a.node_handle()->data != first_place);
  CHECK(a.to_vector<float>() == std::vector<float>{1, 1, 1});
  CHECK(parameters.get("p7").to_vector<float>()[99] == 7);
  CHECK(parameters.count() == 5003);
  CHECK(parameters.slots()[2].offset % 64 == 0);
  CHECK(parameters.values().to_vector<float>()[3] == 0);  // the gap behind `a`
  parameters.get("a").fill(5);
  CHECK(parameters.slice(parameters.values(), parameters.slots()[0]).to_vector<float>()[2] == 5);
  CHECK(message_of<InvalidArgument>([&] { parameters.add("a", {1}, init::constant(0)); }) ==
        "[parameters] expected a new name, got 'a'; every parameter needs one of its own");
  CHECK(message_of<InvalidArgument>([&] {
          Parameters().add("cube", {2, 2, 2}, init::xavier_uniform());
        }) ==
        "[xavier_uniform] expected a weight [fan_out, fan_in], got [2, 2, 2]; normal() and uniform() take any shape");
  CHECK(message_of<InvalidArgument>([&] { Parameters({.dtype = DType::bf16}); }) ==
        "[parameters] expected dtype f32 or f64, got bf16; mixed_precision computes in bf16 beside f32 values");
  CHECK(message_of<InvalidArgument>([&] { parameters.get("b"); }).find("none of the 51 parameters is named 'b'") !=
        std::string::npos);
  CHECK(message_of<InvalidArgument>([&] { parameters.get("p77"); }).find("(did you mean 'p7'?)") != std::string::npos);
}

TEST_CASE("parameters: a store shrinks to what it holds, which stays, and may grow again", "[parameters]") {
  const int64_t before = allocator_stats(Device::kCpu).bytes_for(MemoryUse::kWeights);
  Parameters parameters({.seed = 3, .average = true});
  for (int i = 0; i < 9; ++i) parameters.add("a" + std::to_string(i), {64}, init::uniform(-1, 1));
  const auto weights = [&] { return allocator_stats(Device::kCpu).bytes_for(MemoryUse::kWeights) - before; };
  REQUIRE(weights() > 9 * 256);  // room for more, or nothing is tested here
  const Tensor value = parameters.get("a8");
  const auto values = parameters.values().to_vector<float>();
  parameters.first_moment().rows(0, 1).copy_from(Tensor::full({1}, 5.0));

  const int64_t revision = parameters.revision();
  parameters.shrink_to_fit();
  CHECK(parameters.revision() != revision);  // kernels get other addresses
  CHECK_THROWS_AS(parameters.moment(-1), InvalidArgument);
  CHECK(weights() == 9 * 256);
  CHECK(parameters.values().to_vector<float>() == values);
  CHECK(parameters.average().to_vector<float>() == values);
  CHECK(parameters.first_moment().to_vector<float>()[0] == 5.0f);
  {
    Tape tape;
    tape.backward(sum(scale(value, 2.0)));
  }
  CHECK(parameters.gradients().to_vector<float>().back() == 2.0f);

  parameters.add("b", {64}, init::constant(1));
  CHECK(value.to_vector<float>() == std::vector<float>(values.end() - 64, values.end()));
  CHECK(parameters.values().to_vector<float>().back() == 1.0f);
}

TEST_CASE("parameters: initial values depend on seed and name, not on what else is registered", "[parameters]") {
  Parameters alone({.dtype = DType::f64, .seed = 3}), crowded({.dtype = DType::f64, .seed = 3}),
      other({.dtype = DType::f64, .seed = 4});
  crowded.add("first", {64}, init::normal(0, 1));
  const auto values = alone.add("w", {40, 50}, init::xavier_uniform()).to_vector<double>();
  CHECK(values == crowded.add("w", {40, 50}, init::xavier_uniform()).to_vector<double>());
  CHECK(values != other.add("w", {40, 50}, init::xavier_uniform()).to_vector<double>());
  const double bound = std::sqrt(6.0 / 90);
  double sum = 0, squares = 0;
  for (const double value : values) {
    CHECK(std::abs(value) <= bound);
    sum += value;
    squares += value * value;
  }
  CHECK(std::abs(sum / 2000) < 4 * bound / std::sqrt(3.0 * 2000));
  CHECK(std::abs(squares / 2000 - bound * bound / 3) < 0.1 * bound * bound / 3);
}

TEST_CASE("parameters: gradients that nobody wrote are zero for the optimizer", "[parameters]") {
  Parameters parameters;
  const Tensor used = parameters.add("used", {4}, init::constant(1)),
               unused = parameters.add("unused", {4}, init::constant(1));
  parameters.gradients().fill(7);  // left over from an earlier step
  const auto sink = used.grad_sink<float>();
  CHECK_FALSE(sink.accumulate);
  for (int i = 0; i < 4; ++i) sink.data[i] = 2;
  parameters.zero_unwritten_gradients();
  CHECK(parameters.slice(parameters.gradients(), parameters.slots()[0]).to_vector<float>()[0] == 2);
  CHECK(parameters.slice(parameters.gradients(), parameters.slots()[1]).to_vector<float>()[3] == 0);
  CHECK(used.grad_sink<float>().accumulate);
  parameters.clear_gradients();
  CHECK_FALSE(used.has_grad());
}

namespace {
/// One update of a single weight by plain formulas.
struct ScalarAdam {
  double w, m = 0, v = 0;
  void update(double g, double rate, const AdamOptions& o, int t) {
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    w -= rate * (o.weight_decay * w +
                 m / (1 - std::pow(o.beta1, t)) / (std::sqrt(v / (1 - std::pow(o.beta2, t))) + o.epsilon));
  }
};

void set_gradient(const Parameters& parameters, double value, int64_t count, double rate) {
  parameters.gradients().fill(0);
  const Tensor weight = parameters.slots()[0].value;
  weight.clear_grad();
  weight.grad_sink<double>().data[0] = value;
  StepState state = parameters.step();
  state.loss_count = count;
  state.learning_rate = rate;
  parameters.set_step(state);
}
}  // namespace

TEST_CASE("adam: follows the paper's formulas, with decoupled decay and the mean of a summed gradient", "[optim]") {
  Parameters parameters({.dtype = DType::f64});
  const Tensor weight = parameters.add("w", {1}, init::constant(0.5));
  const AdamOptions options{.weight_decay = 0.1};
  ScalarAdam expected{0.5};
  for (int t = 1; t <= 5; ++t) {
    set_gradient(parameters, 12.0 * t, 4, 0.01 * t);
    clip_by_norm(parameters, 0);
    adam_update(parameters, options);
    expected.update(3.0 * t, 0.01 * t, options, t);
    CHECK(std::abs(weight.item() - expected.w) < 1e-14);
    CHECK(parameters.step().updates == t);
    CHECK(parameters.step().loss_count == 0);
  }
}

TEST_CASE("clip_by_norm: measures the mean gradient and scales only what is too long", "[optim]") {
  Parameters parameters({.dtype = DType::f64});
  const Tensor weight = parameters.add("w", {2}, init::constant(0));
  set_gradient(parameters, 30, 10, 1);
  weight.grad_sink<double>().data[1] = 40;
  clip_by_norm(parameters, 10);
  CHECK(parameters.step().gradient_norm == 5);
  CHECK(parameters.step().gradient_scale == 0.1);
  clip_by_norm(parameters, 2);
  CHECK(std::abs(parameters.step().gradient_scale - 0.4 / 10) < 1e-16);
  clip_by_norm(parameters, 0);
  CHECK(parameters.step().gradient_scale == 0.1);
  CHECK(message_of<InvalidArgument>([&] { clip_by_norm(parameters, -1); }).find("max_norm must be >= 0") !=
        std::string::npos);
}

TEST_CASE("clip_by_norm: a gradient that nobody wrote in this step does not count", "[optim]") {
  Parameters parameters({.dtype = DType::f64});
  parameters.add("used", {1}, init::constant(0));
  parameters.add("unused", {4}, init::constant(0));
  set_gradient(parameters, 3, 1, 1);
  parameters.slice(parameters.gradients(), parameters.slots()[1]).fill(7);  // left over from an earlier step
  clip_by_norm(parameters, 0);
  CHECK(parameters.step().gradient_norm == 3);
}

TEST_CASE("adam: a gradient that is not finite, or no target at all, changes no weight", "[optim]") {
  Parameters parameters({.dtype = DType::f64});
  const Tensor weight = parameters.add("w", {1}, init::constant(0.5));
  for (const double bad : {double(NAN), double(INFINITY)}) {
    set_gradient(parameters, bad, 4, 0.1);
    clip_by_norm(parameters, 1);
    adam_update(parameters, {});
    CHECK(weight.item() == 0.5);
    CHECK(parameters.first_moment().to_vector<double>()[0] == 0);
  }
  CHECK(parameters.step().skipped_updates == 2);
  set_gradient(parameters, 1, 0, 0.1);
  clip_by_norm(parameters, 1);
  adam_update(parameters, {});
  CHECK(weight.item() == 0.5);
  CHECK(parameters.step().skipped_updates == 2);
  CHECK(parameters.step().updates == 0);
}

TEST_CASE("clip_by_norm: gradients near the end of f32 have a finite norm", "[optim]") {
  Parameters parameters;
  const Tensor weight = parameters.add("w", {1}, init::constant(0));
  weight.grad_sink<float>().data[0] = 1e30f;
  StepState state = parameters.step();
  state.loss_count = 1;
  parameters.set_step(state);
  clip_by_norm(parameters, 1);
  CHECK(parameters.step().skip == 0);
  CHECK(std::abs(parameters.step().gradient_norm / 1e30 - 1) < 1e-6);
}

TEST_CASE("adam: options out of range are named", "[optim]") {
  CHECK(message_of<InvalidArgument>([] { check_options({.learning_rate = 0}); }) ==
        "[adam] learning_rate must be > 0 and < 1e30, got 0; 1e-3 is a usual peak");
  CHECK(message_of<InvalidArgument>([] { check_options({.beta1 = 1}); }) ==
        "[adam] beta1 must be in [0, 0.9999999], got 1; 0.9 is usual");
  CHECK(message_of<InvalidArgument>([] { check_options({.beta2 = -0.5}); }) ==
        "[adam] beta2 must be in [0, 0.9999999], got -0.5; 0.98 and 0.999 are usual");
  CHECK(message_of<InvalidArgument>([] { check_options({.epsilon = 0}); }) ==
        "[adam] epsilon must be in [1e-30, 1e30), got 0; 1e-8 is usual");
  CHECK(message_of<InvalidArgument>([] { check_options({.weight_decay = -1}); }) ==
        "[adam] weight_decay must be >= 0 and < 1e30, got -1; 0 turns it off");
}

TEST_CASE("schedules: values at the edges", "[optim]") {
  const auto constant = constant_schedule(4), root = inverse_sqrt_schedule(4), line = linear_schedule(4, 12, 0.2),
             cosine = cosine_schedule(4, 12);
  for (const auto& schedule : {constant, root, line, cosine}) {
    CHECK(schedule(1) == 0.25);
    CHECK(schedule(4) == 1.0);
  }
  CHECK(constant(1000) == 1.0);
  CHECK(root(16) == 0.5);
  CHECK(std::abs(line(8) - 0.6) < 1e-15);
  CHECK(std::abs(line(500) - 0.2) < 1e-15);
  CHECK(std::abs(cosine(8) - 0.5) < 1e-15);
  CHECK(std::abs(cosine(12)) < 1e-15);
  CHECK(constant_schedule()(1) == 1.0);
  CHECK_THROWS_AS(inverse_sqrt_schedule(0), InvalidArgument);
  CHECK_THROWS_AS(linear_schedule(10, 10), InvalidArgument);
}

TEST_CASE("parameters: with mixed precision operations use the values rounded to bf16, the optimizer the exact ones") {
  Parameters parameters({.mixed_precision = true});
  const Tensor w = parameters.add("w", {300}, init::uniform(-1, 1));
  parameters.add("b", {7}, init::constant(0.1));  // moves the buffers
  CHECK(w.dtype() == DType::bf16);
  const auto& slot = parameters.slots()[0];
  CHECK(slot.master.dtype() == DType::f32);
  const auto rounded = [&] { return slot.master.cast(DType::bf16).cast(DType::f32).to_vector<float>(); };
  CHECK(w.cast(DType::f32).to_vector<float>() == rounded());
  CHECK(parameters.get("b").cast(DType::f32).to_vector<float>() == std::vector<float>(7, float(bf16(0.1f))));

  // Updates far below the resolution of bf16 add up: 100 of them of 1e-4 each.
  slot.master.fill(1);
  parameters.round_values();
  for (int i = 0; i < 100; ++i) {
    parameters.clear_gradients();
    parameters.gradients().fill(1);
    parameters.mark_gradients_written();
    StepState state = parameters.step();
    state.loss_count = 1;
    state.learning_rate = 1e-4;
    parameters.set_step(state);
    clip_by_norm(parameters, 0);
    adam_update(parameters, {});
  }
  CHECK(std::abs(slot.master.to_vector<float>()[5] - 0.99f) < 1e-5f);
  CHECK(w.cast(DType::f32).to_vector<float>() == rounded());

  CHECK(message_of<InvalidArgument>([] { Parameters({.dtype = DType::f64, .mixed_precision = true}); }) ==
        "[parameters] mixed precision keeps f32 values, got dtype f64; leave dtype as it is");
}

TEST_CASE("parameters: initializers by name, with the spread that they promise", "[parameters]") {
  Parameters parameters({.dtype = DType::f64});
  const auto start = [&](const std::string& name, const Shape& shape) {
    return parameters.add(name, shape, init::by_name(name)).to_vector<double>();
  };
  const auto spread = [](const std::vector<double>& values) {
    double squares = 0;
    for (const double value : values) squares += value * value;
    return std::sqrt(squares / double(values.size()));
  };
  CHECK(start("zeros", {3}) == std::vector<double>(3, 0));
  CHECK(start("ones", {3}) == std::vector<double>(3, 1));
  const std::pair<const char*, double> expected[] = {{"xavier_uniform", std::sqrt(2.0 / 140)},
                                                     {"xavier_normal", std::sqrt(2.0 / 140)},
                                                     {"kaiming_uniform", std::sqrt(2.0 / 40)},
                                                     {"kaiming_normal", std::sqrt(2.0 / 40)}};
  for (const auto& [name, deviation] : expected) {
    INFO(name);
    const auto values = start(name, {100, 40});
    CHECK(std::abs(spread(values) / deviation - 1) < 0.05);
    const double largest = std::abs(*std::ranges::max_element(values, {}, [](double x) { return std::abs(x); }));
    CHECK((largest < 1.8 * deviation) == std::string(name).ends_with("uniform"));  // sqrt(3) for uniform ones
  }
  CHECK(message_of<InvalidArgument>([] { init::by_name("xavier_unifrom"); }) ==
        "[init] no initializer is named 'xavier_unifrom' (did you mean 'xavier_uniform'?); there are kaiming_normal, "
        "kaiming_uniform, ones, orthogonal, xavier_normal, xavier_uniform, zeros");
  CHECK(message_of<InvalidArgument>([&] { start("orthogonal", {3}); }) ==
        "[orthogonal] expected a weight [fan_out, fan_in], got [3]; normal() and uniform() take any shape");
}

TEST_CASE("parameters: orthogonal rows, or columns where there are more rows", "[parameters]") {
  for (const Shape& shape : {Shape{5, 12}, Shape{12, 5}, Shape{7, 7}}) {
    const int64_t rows = shape[0], columns = shape[1];
    Parameters parameters({.dtype = DType::f64});
    const auto w = parameters.add("w", shape, init::orthogonal(2)).to_vector<double>();
    const bool wide = rows <= columns;
    const int64_t few = std::min(rows, columns), many = std::max(rows, columns);
    const auto at = [&](int64_t i, int64_t k) { return w[size_t(wide ? i * columns + k : k * columns + i)]; };
    for (int64_t i = 0; i < few; ++i)
      for (int64_t j = 0; j < few; ++j) {
        double product = 0;
        for (int64_t k = 0; k < many; ++k) product += at(i, k) * at(j, k);
        REQUIRE(std::abs(product - (i == j ? 4 : 0)) < 1e-13);
      }
  }
}

TEST_CASE("parameters: listed, started anew, and moved between models by name", "[parameters]") {
  Parameters one({.seed = 3, .average = true}), two({.dtype = DType::f64, .seed = 4});
  const Linear layer(one, "encoder.0", 3, 2), other(two, "layers.0", 3, 2);
  two.add("scale", {1}, init::constant(5));
  CHECK(two.str() ==
        "layers.0.weight            [2, 3]            6\n"
        "layers.0.bias                 [2]            2\n"
        "scale                         [1]            1\n"
        "total                                        9\n");
  const auto there = [](const std::string& name) {
    return name == "scale" ? "" : "encoder" + name.substr(std::string("layers").size());
  };
  two.copy_values(one, there);
  CHECK(two.get("layers.0.weight").cast(DType::f32).to_vector<float>() ==
        one.get("encoder.0.weight").to_vector<float>());
  CHECK(two.get("scale").item() == 5);
  const auto before = two.values().to_vector<double>();
  CHECK(message_of<InvalidArgument>([&] { two.copy_values(one); }) ==
        "[copy_values] the other store does not fit; layers.0.weight is missing; layers.0.bias is missing; scale is "
        "missing; build both models with the same options, or map the names");
  Parameters wide;
  const Linear wider(wide, "encoder.0", 4, 2);
  CHECK(message_of<InvalidArgument>([&] { wide.copy_values(one); }) ==
        "[copy_values] the other store does not fit; encoder.0.weight is [2, 3], expected [2, 4]; build both models "
        "with the same options, or map the names");
  CHECK(two.values().to_vector<double>() == before);

  const auto is_weight = [](const Parameters::Slot& slot) { return slot.name.ends_with("weight"); };
  one.reset(is_weight, init::constant(0.25));
  CHECK(one.get("encoder.0.weight").to_vector<float>() == std::vector<float>(6, 0.25f));
  CHECK(one.average().to_vector<float>()[5] == 0.25f);
  one.reset(is_weight, init::xavier_uniform());  // the same numbers as at first
  CHECK(one.get("encoder.0.weight").to_vector<float>() ==
        two.get("layers.0.weight").cast(DType::f32).to_vector<float>());
  CHECK_THROWS_AS(one.reset([](const auto&) { return false; }, init::constant(0)), InvalidArgument);
}

}  // namespace libtrain
