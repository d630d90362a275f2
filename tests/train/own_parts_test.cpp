/// Models, losses, schedules, events and batches of a program's own, and what evaluation costs.
#include <cmath>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain::testing {
using test::message_of;

namespace {

/// Two inputs and a number that both are to explain: y = 3 a + b.
struct Sums {
  Tensor a, b, y;  // [4, 1] each
};

class SumBatches : public BatchSource<Sums> {
 public:
  int64_t begin_epoch(int64_t epoch) override {
    epoch_ = epoch;
    return 5;
  }
  Sums get(int64_t index) override {
    std::vector<double> a, b, y;
    for (int64_t i = 0; i < 4; ++i) {
      a.push_back(std::sin(double(epoch_ * 100 + index * 10 + i)));
      b.push_back(std::cos(double(epoch_ * 70 + index * 13 + i)));
      y.push_back(3 * a.back() + b.back());
    }
    const auto column = [](const std::vector<double>& values) { return Tensor::from<double>(values, {4, 1}); };
    return {column(a), column(b), column(y)};
  }

 private:
  int64_t epoch_ = 0;
};

/// A model of two inputs.
struct TwoInputs {
  Parameters parameters{{.dtype = DType::f64}};
  Linear of_a{parameters, "of_a", 1, 1}, of_b{parameters, "of_b", 1, 1};
  Tensor operator()(const Tensor& a, const Tensor& b) const { return add(of_a(a), of_b(b)); }
};

Tensor squared_error(const Tensor& y, const Tensor& expected) {
  const Tensor difference = sub(y, expected);
  return mean(mul(difference, difference));
}

}  // namespace

TEST_CASE("own parts: a model of two inputs learns with batches, loss, schedule and event of the program's own",
          "[train]") {
  TwoInputs model;
  SumBatches batches;
  TrainLoop loop(model.parameters, batches,
                 [&](const Sums& batch) { return squared_error(model(batch.a, batch.b), batch.y); },
                 {.epochs = 200, .adam = {.learning_rate = 0.2}, .schedule = [](int64_t update) {
                    return update <= 500 ? 0.5 : 0.05;
                  }});
  double last = 1;
  int64_t updates = 0;
  loop.on_update([&](const Parameters& parameters) {
    ++updates;
    CHECK(parameters.get("of_a.weight").has_grad());
  });
  loop.on_step([](const StepReport& report) {
    CHECK(std::abs(report.learning_rate - (report.updates <= 500 ? 0.1 : 0.01)) < 1e-15);
  });
  loop.on_epoch([&](const EpochReport& report) { last = report.loss; });
  loop.run();
  CHECK(updates == 1000);
  CHECK(last < 1e-6);
  CHECK(std::abs(model.parameters.get("of_a.weight").item() - 3) < 5e-3);
  CHECK(std::abs(model.parameters.get("of_b.weight").item() - 1) < 5e-3);
}

TEST_CASE("own loop: apply_update takes the steps of a TrainLoop", "[train]") {
  const Optimizer optimizer = adam({.learning_rate = 0.2});
  SumBatches batches;
  TwoInputs in_loop, by_hand;
  const auto loss = [](const TwoInputs& model, const Sums& batch) {
    return squared_error(model(batch.a, batch.b), batch.y);
  };
  TrainOptions options{.epochs = 4, .clip_norm = 0.5, .schedule = [](int64_t update) { return 1.0 / double(update); }};
  options.optimizer = optimizer;
  TrainLoop loop(
      in_loop.parameters, batches, [&](const Sums& batch) { return loss(in_loop, batch); }, options);
  loop.run();
  int64_t updates = 0;
  for (int64_t epoch = 0; epoch < 4; ++epoch)
    for (int64_t i = 0, end = batches.begin_epoch(epoch); i < end; ++i) {
      Tape tape;
      tape.backward(loss(by_hand, batches.get(i)));
      apply_update(by_hand.parameters, optimizer, 0.5, 1.0 / double(++updates));
    }
  CHECK(by_hand.parameters.values().to_vector<double>() == in_loop.parameters.values().to_vector<double>());
  CHECK(by_hand.parameters.step().updates == 20);
  CHECK_FALSE(by_hand.parameters.slots()[0].value.has_grad());
}

TEST_CASE("own loop: apply_update says what is missing, and changes nothing for what is not finite", "[train]") {
  TwoInputs model;
  SumBatches batches;
  const auto refused = [&](const Optimizer& optimizer, double clip_norm, double factor) {
    return message_of<InvalidArgument>([&] { apply_update(model.parameters, optimizer, clip_norm, factor); });
  };
  const auto backward = [&](double by) {
    Tape tape;
    const Sums batch = batches.get(0);
    tape.backward(scale(squared_error(model(batch.a, batch.b), batch.y), by));
  };
  CHECK(refused(sgd({}), 0, 1) ==
        "[apply_update] no parameter has a gradient; call Tape::backward() of a loss that depends on them first");
  backward(1);
  CHECK(refused(sgd({.learning_rate = 0.1}), 0, -1) ==
        "[apply_update] factor -1 makes a learning rate of -0.1; expected one in [0, 1e30)");
  CHECK(refused(sgd({}), -1, 1) == "[apply_update] clip_norm must be >= 0 and finite, got -1; 0 never clips");
  CHECK(refused(sgd({}), INFINITY, 1) == "[apply_update] clip_norm must be >= 0 and finite, got inf; 0 never clips");
  CHECK(refused(sgd({}), NAN, 1).find("[apply_update] clip_norm must be >= 0 and finite, got nan") == 0);
  CHECK(refused(Optimizer{.learning_rate = 1}, 0, 1) ==
        "[apply_update] the optimizer has no update function; adam() and sgd() make whole ones");
  apply_update(model.parameters, sgd({}));
  CHECK(refused(adam({}), 0, 1) != "no exception");
  const auto before = model.parameters.values().to_vector<double>();
  backward(INFINITY);
  apply_update(model.parameters, sgd({}));
  CHECK(model.parameters.values().to_vector<double>() == before);
  CHECK(model.parameters.step().skipped_updates == 1);
  StepState held = model.parameters.step();
  held.skip = StepState::kHolds;  // as a loop leaves it that was not gone on with
  model.parameters.set_step(held);
  backward(1);
  apply_update(model.parameters, sgd({}));
  CHECK(model.parameters.values().to_vector<double>() != before);
  CHECK(model.parameters.step().skipped_updates == 1);
  backward(1);
  apply_update(model.parameters, sgd({}));
  CHECK(model.parameters.values().to_vector<double>() != before);
}

TEST_CASE("evaluation: without a tape nothing is kept and no gradient takes memory", "[train]") {
  constexpr int64_t kRows = 256, kSize = 64, kLayers = 6, kActivation = kRows * kSize * int64_t(sizeof(float));
  Parameters parameters;
  Sequential net(parameters, "net");
  for (int64_t i = 0; i < kLayers; ++i) net.add<Linear>(kSize, kSize).add(relu);
  const Tensor x = Tensor::full({kRows, kSize}, 0.5);
  x.set_requires_grad();
  const auto in_use = [] { return allocator_stats(Device::kCpu).bytes_in_use; };
  const auto peak_of = [&](const auto& work) {
    const int64_t before = in_use();
    reset_peak(Device::kCpu);
    work();
    return allocator_stats(Device::kCpu).peak_bytes_in_use - before;
  };

  const int64_t before = in_use();
  Tensor y;
  const int64_t evaluation = peak_of([&] { y = net(x); });
  CHECK(in_use() == before + kActivation);  // y itself
  CHECK(evaluation <= 3 * kActivation);     // a layer's input, its output, and what a product needs
  CHECK_FALSE(y.requires_grad());
  CHECK(x.node_handle()->grad_data == nullptr);
  for (const auto& slot : parameters.slots()) CHECK_FALSE(slot.value.has_grad());

  const int64_t forward = peak_of([&] {
    const Tape tape;
    net(x);
  });
  CHECK(forward >= 2 * kLayers * kActivation);  // every activation waits for backward
  CHECK(in_use() == before + kActivation);
  {
    const Tape tape;
    const NoTape evaluation_in_between;
    CHECK(peak_of([&] { y = net(x); }) <= 4 * kActivation);
    CHECK(tape.size() == 0);
  }
  {
    Tape tape;
    tape.backward(sum(net(x)));
  }
  CHECK(x.node_handle()->grad_data != nullptr);
  CHECK(in_use() == before + 2 * kActivation);  // y, and the gradient of x
}

}  // namespace libtrain::testing
